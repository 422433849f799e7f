# lab: guests=3 time=900 load=waits long=yes kernel=stable
# what: what lvm-lease-loss is compared with: open-iscsi, dm-multipath, sanlock and its watchdog; both VLANs are cut, or sanlock is stopped, and the host resets before another has the LV
# kernel-log-may-say: blocked for more than
. /host/lvm.sh
IO_TIMEOUT=2

story() {
    target_up
    on host1 stack_up watched &
    on host2 stack_up kernel
    joined $!
    vg_shared host1 host2
    on host1 lvcreate -y -Wn -an -L 64M -n lv0 vg0
    resets "both VLANs are cut" cut_off given_back
    on host1 stack_up watched
    on host1 locks_start
    resets "sanlock is stopped" stopped nothing
}

# resets WORDS LOSS RETURN
resets() {
    say "== $1"
    on host1 lvchange -aey vg0/lv0
    may_reset host1
    $2
    _lost=$(ms)
    on host2 locked lvchange -aey vg0/lv0
    on host2 take_over &
    TAKER=$!
    has_reset host1 200
    say "host1 is up again after $((($(ms) - _lost) / 1000)) s"
    joined $TAKER
    say "host2 has the LV after $((($(ms) - _lost) / 1000)) s at most"
    $3
    on host2 lvchange -an vg0/lv0
}

cut_off() { vlan_cut host1; }
given_back() { vlan_give host1; }
stopped() { on host1 pkill -STOP -x sanlock; }
nothing() { :; }
take_over() {
    until lvchange -aey vg0/lv0 >/dev/null 2>&1; do sleep 1; done
}
