# lab: guests=3 time=1800 load=waits long=yes kernel=stable
# what: a host loses its lease with full send buffers - cut off, stopped, both, killed - and another takes the LV over and writes; when all is given back, no write of the first host lands any more
# kernel-log-may-say: blocked for more than
. /host/lvm.sh
# A host is dead after 8 t + 60 s.
IO_TIMEOUT=2
DEAD=$((8 * IO_TIMEOUT + 60))

story() {
    target_up
    both stack_up sanblk
    vg_shared host1 host2
    on host1 lvcreate -y -Wn -an -L 64M -n lv0 vg0
    on host1 lvchange -aey vg0/lv0
    AT=$(ask host1 lv_at lv0)
    on host1 lvchange -an vg0/lv0
    lost "both VLANs are cut" cut_off given_back
    lost "the daemon is stopped" stopped continued
    lost "both VLANs are cut and the daemon is stopped; the VLANs come back first" cut_and_stopped given_back_then_continued
    lost "the daemon is killed, and started again when the lease is lost" killed started_again
    killed_for_a_moment
}

# lost WORDS LOSS RETURN
lost() {
    say "== $1"
    writer_up
    $2
    _lost=$(ms)
    on host2 locked lvchange -aey vg0/lv0
    until ask host2 lvchange -aey vg0/lv0; do
        [ $(($(ms) - _lost)) -lt $(((DEAD + 60) * 1000 * PATIENCE)) ] || fail "host2 does not get the LV"
        sleep 3
    done
    _took=$((($(ms) - _lost) / 1000))
    say "host2 has the LV after $_took s"
    # A renewal was up to 2 t old.
    [ $_took -ge $((DEAD - 2 * IO_TIMEOUT)) ] || fail "host2 has the LV too early"
    medium /dev/shm/before
    on host2 stamps write lv0 host2 2
    $3
    # Longer than what a target, TCP and a retry keep.
    sleep 75
    medium /dev/shm/after
    expect python3 /host/stamps.py judge /dev/shm/before /dev/shm/after host1 host2 2
    ask host1 sanblk status
    ask host1 sanblk lease status
    on host2 lvchange -an vg0/lv0
    say "-- host1 begins again"
    power_cycle host1
    wait
    on host1 stack_up sanblk
    on host1 locks_start
}

# killed_for_a_moment: the daemon is back before anybody could take over, and so is its host.
killed_for_a_moment() {
    say "== the daemon is killed, and started again at once"
    writer_up
    killed
    started_again
    on host2 locked lvchange -aey vg0/lv0
    on host1 locks_start
    on host1 lvchange -aey vg0/lv0
    on host2 locked lvchange -aey vg0/lv0
    on host1 lvchange -an vg0/lv0
    on host2 lvchange -aey vg0/lv0
    medium /dev/shm/before
    on host2 stamps write lv0 host2 2
    sleep 30
    medium /dev/shm/after
    expect python3 /host/stamps.py judge /dev/shm/before /dev/shm/after host1 host2 2
}

# writer_up: host1 has the LV and writes to it faster than its links carry.
writer_up() {
    on host1 lvchange -aey vg0/lv0
    on host1 stamps write lv0 everywhere 1
    ask host1 stamps write lv0 host1 &
    sleep 5
    on host1 slow_links
    on host1 within 20 full_buffers
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

stamps() { # write LV WORD [EVERY]
    _lv=$2 _word=$3
    shift 3
    python3 /host/stamps.py write "/dev/vg0/$_lv" "$_word" "$@"
}
slow_links() {
    for _v in 5 6; do tc qdisc add dev san$_v root tbf rate 20mbit burst 32k latency 200ms; done
}
# At least a quarter of a megabyte waits in the sockets.
full_buffers() { ss -Htn 'dport = :3260' | awk '{ queued += $3 } END { print "queued:", queued; exit queued < 262144 }'; }
signal() { kill "-$1" "$(cat /run/daemon.pid)"; }
stack_again() {
    pkill -KILL -x lvmlockd
    within 5 not pgrep -x lvmlockd
    dmsetup ls | awk '/^vg0-/ { print $1 }' | while read -r _map; do dmsetup remove --force "$_map"; done
    stack_up sanblk
}
# lv_at LV: bytes from the start of the disk.
lv_at() {
    _pe=$(lvs --noheadings -o seg_pe_ranges "vg0/$1" | sed 's/.*:\([0-9]*\)-.*/\1/')
    _start=$(pvs --noheadings --nosuffix --units b -o pe_start "$(disk)" | tr -d ' ')
    _extent=$(vgs --noheadings --nosuffix --units b -o vg_extent_size vg0 | tr -d ' ')
    echo $((_start + _pe * _extent))
}

# --- in the array ---

# medium FILE: a copy of what the LV's place on the medium holds.
medium() { dd if=$STORE/disk0.img of="$1" bs=1M iflag=skip_bytes skip="$AT" count=64 status=none; }
