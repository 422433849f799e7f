# lab: guests=3 time=420 load=waits long=yes kernel=stable
# what: more LVs than the lvmlock LV has places for, on blocks of 4096 bytes: it grows, and the other host finds the new places
. /host/lvm.sh
# An area has 8 MiB here, and a renewal reads one within an io_timeout, which is the usual one.
AREA=8

story() {
    target_up size=4G block=4096
    both stack_up sanblk
    vg_shared host1 host2
    on host2 lvcreate -y -Wn -an -l 1 -n first vg0
    BEFORE=$(ask host1 lvmlock_mib)
    # The lockspace, 64 areas that are left out, GLLK, VGLK and the first LV's are before these; one place is left.
    on host1 taken 68 $((BEFORE / AREA - 2))
    on host1 many_lvs 3
    AFTER=$(ask host1 lvmlock_mib)
    [ "$AFTER" -gt "$BEFORE" ] || fail "lvmlock has $AFTER MiB as before"
    on host1 lvchange -aey vg0/lv3
    on host2 locked lvchange -aey vg0/lv3
    on host1 lvchange -an vg0/lv3
    on host2 lvchange -aey vg0/lv3
    on host1 locked lvchange -aey vg0/lv3
    on host2 lvchange -an vg0/lv3
}

lvmlock_mib() { lvs -a --noheadings --nosuffix --units m -o lv_size vg0/lvmlock | sed 's/ *//; s/\..*//'; }
# taken FIRST LAST: these places of the lvmlock LV, as if LVs had them.
taken() {
    for _place in $(seq "$1" "$2"); do
        expect sanlock client init -r "lvm_vg0:taken$_place:/dev/mapper/vg0-lvmlock:$((_place * AREA << 20))"
    done
}
many_lvs() {
    for _lv in $(seq "$1"); do expect lvcreate -y -Wn -Zn -an -l 1 -n "lv$_lv" vg0; done
}
