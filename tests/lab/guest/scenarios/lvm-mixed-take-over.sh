# lab: guests=3 time=300 load=waits kernel=stable
# what: a shared VG on two hosts, one with open-iscsi, dm-multipath and sanlock, one with sanblk: refused, shared, and taken over when the host with sanblk is cut off with full send buffers; no write of it lands later
# kernel-log-may-say: blocked for more than
. /host/lvm.sh
IO_TIMEOUT=2
. /host/takeover.sh

story() {
    target_up
    on host1 stack_up kernel &
    on host2 stack_up sanblk
    joined $!
    vg_shared host1 host2
    lv_up host1
    on host2 locked lvchange -asy vg0/lv0
    on host1 lvchange -asy vg0/lv0
    on host2 lvchange -asy vg0/lv0
    on host1 lvchange -an vg0/lv0
    on host2 lvchange -aey vg0/lv0

    say "== host2 is cut off"
    writer_up host2
    vlan_cut host2
    taken_over host1 "$(ms)"
    vlan_give host2
    sleep 20
    no_late_write host2 host1
}
