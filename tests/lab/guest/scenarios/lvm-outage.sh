# lab: guests=3 time=1200 load=waits long=yes kernel=stable
# what: the storage alone goes away for 30, 120 and 300 s while two hosts write to LVs: nobody takes over, both go on without an error
# kernel-log-may-say: blocked for more than
. /host/lvm.sh
LIMIT=$((500 * PATIENCE))

story() {
    target_up
    both stack_up sanblk
    vg_shared host1 host2
    for _n in 1 2; do
        on host$_n lvcreate -y -Wn -an -L 64M -n lv$_n vg0
        on host$_n lvchange -aey vg0/lv$_n
    done
    for _gone in 30 120 300; do away $_gone lv1 lv2; done
    both sanblk status
    both sanblk lease status
    on host1 lvchange -an vg0/lv1
    on host2 lvchange -aey vg0/lv1
}

# away SECONDS LV1 LV2: so long, while each host writes to its LV.
away() {
    say "== the storage is away for $1 s"
    on host1 io_across "$2" "$1" &
    IO1=$!
    on host2 io_across "$3" "$1" &
    IO2=$!
    sleep 10
    vlan_cut host1
    vlan_cut host2
    sleep "$1"
    vlan_give host1
    vlan_give host2
    joined $IO1
    joined $IO2
    on host1 locked lvchange -aey "vg0/$3"
    on host2 locked lvchange -aey "vg0/$2"
}

# io_across LV SECONDS: verified IO that begins before the storage goes away and ends after its return.
io_across() {
    verify_start "/dev/vg0/$1" $(($2 + 30 * PATIENCE)) --size=48M
    verify_done
    # It was really away.
    [ "$(slowest_ms)" -gt $((($2 - 5) * 1000)) ] || fail "the slowest answer took $(slowest_ms) ms only"
}
