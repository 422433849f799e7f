# lab: time=240 load=waits kernel=stable
# what: sanlock's own tool prints for our socket what it prints for the daemon of its own package, command by command
. /host/lib.sh

# Two hosts that have nothing to do with each other, each in a directory of its own with an area of the same name.
T=3
DIRS=/dev/shm/clients
for who in theirs ours; do
    mkdir -p "$DIRS/$who"
    truncate -s 10M "$DIRS/$who/areas"
done
(
    cd "$DIRS/theirs" || exit
    mkdir -p /run/theirs
    SANLOCK_RUN_DIR=/run/theirs exec sanlock daemon -D -w 0 -U root -G root -e north >/tmp/theirs.log 2>&1
) &
# What our name in lockspaces is made of.
printf '%032d\n' 2 >/etc/machine-id
(cd "$DIRS/ours" && SANLOCK_RUN_DIR=/run/ours exec sanblk daemon --sanlock-socket >/tmp/ours.log 2>&1) &

# tool WHO WORDS...: both streams, and the exit code.
tool() {
    (
        cd "$DIRS/$1" || exit
        export SANLOCK_RUN_DIR="/run/$1"
        shift
        timeout 60 sanlock client "$@" 2>&1
        echo "exit $?"
    )
}
ready() { [ "$(tool "$1" version | tail -1)" = "exit 0" ]; }
within 10 ready theirs
within 10 ready ours

# What differs from run to run: clocks, processes, descriptors, names of hosts, numbers in logs. Threads of the real one.
comparable() {
    sed -E \
        -e 's/^daemon .*/daemon */' \
        -e 's/^(p|r .* p) [0-9]+/\1 */' \
        -e 's/timestamp [0-9]+/timestamp */' \
        -e 's/timestamp=[0-9]+ read_ms=.*/a renewal/' \
        -e 's/^    (our_host_name|owner_name|ci|fd|pid|timestamp|last_check|last_live|space_id|res_id|token_id)=.*/    \1=*/' \
        -e 's/^    ((acquire|renewal)_last_(attempt|success)|monotime|helper_[a-z_]+|cmd_last|thread_id)=.*/    \1=*/' \
        -e 's/^    (use_watchdog|debug_[a-z]+|mlock_level|high_priority|use_hugepages|(max|num)_worker_threads)=.*/    \1=*/' |
        awk '/^worker|^resource_thread/ { skip = 1; next } skip && /^    / { next } { skip = 0; print }' | uniq
}

wrong=
# both WORDS...: the same command to both daemons.
both() {
    say "sanlock client $*"
    for who in theirs ours; do tool $who "$@" | comparable >/tmp/$who.out; done
    if cmp -s /tmp/theirs.out /tmp/ours.out; then return; fi
    diff -u /tmp/theirs.out /tmp/ours.out
    wrong="$wrong
  $*"
}

say "== areas"
both version
both init -s LS:0:areas:0 -o $T -Z 512 -A 1M
for r in RA:1 RB:2 RC:3; do both init -r "LS:${r%:*}:areas:$((${r#*:} << 20))" -Z 512 -A 1M; done
both init -s LS:0:nothing:0
both init -r LS:RX:areas:9437184 -Z 512 -A 8M
both align -s LS:0:areas:0
both align -s LS:0:nothing:0
both read -s LS:1:areas:0
both read -s LS:1:areas:0 -D
both read -s ::areas:0
both read -s LT:1:areas:0
both read -s LS:1:nothing:0
both read -r LS:RA:areas:1048576
both read -r LS:RA:areas:1048576 -D
both read -r ::areas:1048576
both read -r LS:RB:areas:1048576
both read -r ::areas:9437184

say "== the lockspace"
both gets
both gets -h 1
both status
both inq_lockspace -s LS:1:areas:0
both host_status -s LS
both rem_lockspace -s LS:1:areas:0
both add_lockspace -s LS:1:nothing:0
both add_lockspace -s LS:0:areas:0
both add_lockspace -s LS:2001:areas:0
both add_lockspace -s LT:1:areas:0
both add_lockspace -s LS:1:areas:1048576
both add_lockspace -s LS:1:areas:0 -o $T
both add_lockspace -s LS:1:areas:0
both add_lockspace -s LS:2:areas:0
both inq_lockspace -s LS:1:areas:0
both inq_lockspace -s LS:2:areas:0
both inq_lockspace -s LT:1:areas:0
both gets
# Until the renewal that looks at the hosts for the first time.
listed() { tool "$1" gets -h 1 | grep -q "^h 1 gen 1 timestamp [0-9]* LIVE"; }
within 30 listed theirs
within 30 listed ours
both gets -h 1
both host_status -s LS
both host_status -s LS -D
both host_status -s LT
both set_config -s LS -u 1
both set_config -s LS -u 0
both set_config -s LS -O 1
both set_config -s LS -O 0
both set_config -s LT -u 1
both examine -s LS
both examine -s LT
both examine -r LS:RA:areas:1048576
both set_event -s LS -i 1 -g 1 -e 7 -d 1234
both set_event -s LS -i 1 -g 1 -e 8 -d 1
both set_event -s LT -i 1 -g 1 -e 7

say "== leases by a process, and by its number"
for who in theirs ours; do
    tool $who command -r LS:RA:areas:1048576 -c /bin/sleep 10000 >/tmp/$who.holder 2>&1 &
done
holder() { tool "$1" status | sed -n 's/^r LS:RA:.* p \([0-9]*\)$/\1/p'; }
held() { [ -n "$(holder "$1")" ]; }
within 20 held theirs
within 20 held ours
# Each daemon knows its own process: PID stands for it.
by_pid() {
    say "sanlock client $*"
    for who in theirs ours; do
        words=$(echo "$*" | sed "s/PID/$(holder $who)/")
        # shellcheck disable=SC2086
        tool $who $words | comparable | sed -E 's/(-p|pid) [0-9]+/\1 */' >/tmp/$who.out
    done
    cmp -s /tmp/theirs.out /tmp/ours.out && return
    diff -u /tmp/theirs.out /tmp/ours.out
    wrong="$wrong
  $*"
}
both status
both status -D
by_pid inquire -p PID
by_pid acquire -r LS:RA:areas:1048576 -p PID
by_pid acquire -r LS:RB:areas:2097152:SH -p PID
by_pid acquire -r LS:RB:areas:2097152 -p PID
by_pid acquire -r LS:RX:areas:9437184 -p PID
by_pid acquire -r LT:RC:areas:3145728 -p PID
by_pid acquire -r LS:RX:areas:3145728 -p PID
by_pid inquire -p PID
both status
both status -D
by_pid convert -r LS:RB:areas:2097152 -p PID
by_pid convert -r LS:RB:areas:2097152 -p PID
by_pid convert -r LS:RB:areas:2097152:SH -p PID
by_pid convert -r LS:RC:areas:3145728 -p PID
both read -r LS:RA:areas:1048576
both read -r LS:RB:areas:2097152
both request -r LS:RA:areas:1048576:1 -f 2
both request -r LS:RA:areas:1048576:0 -f 0
by_pid release -r LS:RC:areas:3145728 -p PID
by_pid release -r LS:RB:areas:2097152 -p PID
by_pid inquire -p PID
both acquire -r LS:RB:areas:2097152 -p 1
both inquire -p 1
both release -r LS:RB:areas:2097152 -p 1
both shutdown -w 1
for who in theirs ours; do kill "$(holder $who)"; done
gone() { [ "$(tool "$1" status | grep -c ^r)" = 0 ]; }
within 10 gone theirs
within 10 gone ours
both status

say "== deletion, and the end"
both init -r LS:RC:areas:3145728 -z 1 -Z 512 -A 1M
both read -r ::areas:3145728
both rem_lockspace -s LS:1:areas:0
both rem_lockspace -s LS:1:areas:0
both gets
both status

[ -z "$wrong" ] || fail "the tool prints something else:$wrong"
rm -rf "$DIRS"
