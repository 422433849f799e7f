# lab: guests=3 time=1500 load=waits long=yes kernel=stable
# what: a host loses its lease with full send buffers - cut off, stopped, both, killed - and another takes the LV over and writes; when all is given back, no write of the first host lands any more
# kernel-log-may-say: blocked for more than
. /host/lvm.sh
IO_TIMEOUT=2
. /host/takeover.sh

story() {
    target_up
    both stack_up sanblk
    vg_shared host1 host2
    lv_up host1
    lost "both VLANs are cut" cut_off given_back
    host1_anew
    lost "the daemon is stopped" stopped continued
    host1_anew
    lost "both VLANs are cut and the daemon is stopped; the VLANs come back first" cut_and_stopped given_back_then_continued
    host1_anew
    lost "the daemon is killed, and started again when the lease is lost" killed started_again
    host1_anew
    killed_for_a_moment
}

# lost WORDS LOSS RETURN
lost() {
    say "== $1"
    writer_up host1
    $2
    taken_over host2 "$(ms)"
    $3
    # TCP repeats 51 s and 102 s after the cut; host2 took over between the two.
    sleep 40
    no_late_write host1 host2
    ask host1 sanblk status
    ask host1 sanblk lease status
}

host1_anew() {
    on host2 lvchange -an vg0/lv0
    power_cycle host1
    wait
    on host1 stack_up sanblk
    on host1 locks_start
    on host1 lvchange -aey vg0/lv0
}

# killed_for_a_moment: the daemon is back before anybody could take over, and so is its host.
killed_for_a_moment() {
    say "== the daemon is killed, and started again at once"
    writer_up host1
    killed
    started_again
    on host2 locked lvchange -aey vg0/lv0
    on host1 locks_start
    on host1 lvchange -aey vg0/lv0
    on host2 locked lvchange -aey vg0/lv0
    on host1 lvchange -an vg0/lv0
    on host2 lvchange -aey vg0/lv0
    written_over host2
    sleep 10
    no_late_write host1 host2
}

cut_off() { vlan_cut host1; }
given_back() { vlan_give host1; }
stopped() { on host1 signal STOP; }
continued() { on host1 signal CONT; }
cut_and_stopped() { cut_off; stopped; }
given_back_then_continued() { given_back; sleep 20; continued; }
killed() { on host1 signal KILL; }
started_again() { on host1 stack_again; }

# --- on a host ---

signal() { kill "-$1" "$(cat /run/daemon.pid)"; }
stack_again() {
    pkill -KILL -x lvmlockd
    within 5 not pgrep -x lvmlockd
    dmsetup ls | awk '/^vg0-/ { print $1 }' | while read -r _map; do dmsetup remove --force "$_map"; done
    stack_up sanblk
}
