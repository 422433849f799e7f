# A host that loses its lease while its send buffers are full, another that takes its LV over and writes, and a look at the
# medium: who wrote what. Comes after lvm.sh and IO_TIMEOUT.

# A host is dead so long after its last renewal.
DEAD=$((8 * IO_TIMEOUT + 60))

# lv_up HOST: lv0, and $AT, where it lies.
lv_up() {
    on "$1" lvcreate -y -Wn -an -L 64M -n lv0 vg0
    on "$1" lvchange -aey vg0/lv0
    AT=$(ask "$1" lv_at lv0)
}

# writer_up HOST: it has the LV and writes to it faster than its links carry.
writer_up() {
    on "$1" stamps write lv0 everywhere 1
    ask "$1" stamps write lv0 "$1" &
    on "$1" slow_links
    sleep 3
    on "$1" within 30 full_buffers
}

# taken_over HOST LOST: it has the LV as soon as the owner counts as dead, LOST being when that was lost. It writes.
taken_over() {
    on "$1" locked lvchange -aey vg0/lv0
    until ask "$1" lvchange -aey vg0/lv0; do
        [ $(($(ms) - $2)) -lt $(((DEAD + 60) * 1000 * PATIENCE)) ] || fail "$1 does not get the LV"
        sleep 3
    done
    _took=$((($(ms) - $2) / 1000))
    say "$1 has the LV after $_took s"
    # A renewal was up to 2 t old.
    [ $_took -ge $((DEAD - 2 * IO_TIMEOUT)) ] || fail "$1 has the LV too early"
    written_over "$1"
}
# written_over HOST: it writes every second block.
written_over() {
    medium /dev/shm/before
    on "$1" stamps write lv0 "$1" 2
}
# no_late_write OLD NEW: what NEW wrote is on the medium, and nothing of OLD's that was not there before.
no_late_write() {
    medium /dev/shm/after
    python3 /host/stamps.py judge /dev/shm/before /dev/shm/after "$1" "$2" 2 || fail "a write of $1 landed late"
}

# --- on a host ---

stamps() { # write LV WORD [EVERY]
    _lv=$2 _word=$3
    shift 3
    python3 /host/stamps.py write "/dev/vg0/$_lv" "$_word" "$@"
}
slow_links() {
    for _v in 5 6; do tc qdisc add dev san$_v root tbf rate 20mbit burst 32k latency 200ms; done
}
# More waits in the sockets than two writes have. A path is given little more than its link carries.
full_buffers() { ss -Htn 'dport = :3260' | awk '{ queued += $3 } END { print "queued:", queued; exit queued < 131072 }'; }
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
