# lab: guests=3 time=300 load=waits kernel=stable
# what: one short turn of lvm-migration and lvm-outage: a guest moves to the other host; the storage goes away for longer than the leases last, nobody takes over, and both hosts go on
# kernel-log-may-say: blocked for more than
. /host/scenarios/lvm-migration.sh
. /host/scenarios/lvm-outage.sh
# A lease lasts 8 t.
IO_TIMEOUT=2

story() {
    target_up
    both stack_up sanblk
    vg_shared host1 host2
    on host1 lvcreate -y -Wn -an -L 64M -n lv0 vg0
    on host1 lvchange -aey vg0/lv0
    moves host1 host2
    on host1 lvcreate -y -Wn -an -L 64M -n lv1 vg0
    on host1 lvchange -aey vg0/lv1
    away 25 lv1 lv0
    both expired_and_back
    on host1 lvchange -an vg0/lv1
    on host2 lvchange -aey vg0/lv1
}

# Its lease had ended, and was found as it was left.
expired_and_back() {
    sanblk events | grep 'every lease was won back' || { sanblk events; fail "its lease did not end"; }
}
