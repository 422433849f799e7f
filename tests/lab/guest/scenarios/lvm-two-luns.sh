# lab: guests=3 time=600 load=waits long=yes kernel=stable
# what: a shared VG over two LUNs on sanblk: vgextend and vgreduce move what depends on the leases; with one host cut off, its writes to either wait
. /host/lvm.sh
IO_TIMEOUT=2

story() {
    target_up luns=2
    both two_volumes
    vg_shared host1 host2
    say "== the VG grows by the second LUN"
    on host1 vgextend vg0 /dev/ublkb1
    on host1 guarded ublkb0 ublkb1
    on host1 lvcreate -y -Wn -an -i 2 -L 64M -n lv0 vg0
    on host1 lvchange -aey vg0/lv0
    on host1 verify_fill /dev/vg0/lv0 32M
    on host2 locked lvchange -aey vg0/lv0
    # Its command of any kind sees the new LUN.
    on host2 guarded ublkb0 ublkb1

    say "== host1 is cut off: its writes to either wait, and go on"
    on host1 verify_across lv0 &
    IO=$!
    sleep 5
    vlan_cut host1
    on host1 within $((8 * IO_TIMEOUT + 20)) gates_are shut shut
    vlan_give host1
    on host1 within 60 gates_are open open
    joined $IO
    on host1 verify_fill /dev/vg0/lv0 32M
    on host2 locked lvchange -aey vg0/lv0

    say "== one LUN less"
    on host1 lvchange -an vg0/lv0
    on host2 lvchange -aey vg0/lv0
    on host2 verify_again /dev/vg0/lv0 32M
    on host2 lvremove -y vg0/lv0
    on host2 vgreduce vg0 /dev/ublkb1
    on host2 guarded ublkb0
    on host2 sanblk detach /dev/ublkb1
    on host1 vgs vg0
    on host1 guarded ublkb0
}

two_volumes() {
    stack_up sanblk --lun 0
    attached --lun 1
}

# guarded DEVICE...: the writes of these volumes depend on the lockspace, and of no others.
guarded() {
    within 5 guarded_are "$*"
}
guarded_are() {
    [ "$(sanblk status --json | jq -r '[.volumes[] | select(.gate.lockspace == "lvm_vg0") | .device[5:]] | sort | join(" ")')" = "$1" ]
}
gates_are() { [ "$(sanblk status --json | jq -r '[.volumes[].gate.state] | join(" ")')" = "$*" ]; }

# verify_across LV: verified IO for the time of a cut.
verify_across() {
    verify_start "/dev/vg0/$1" 60 --size=48M
    verify_done
}
