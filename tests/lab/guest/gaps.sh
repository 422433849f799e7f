# How long IO stands still when a path is lost: `failover_gap STACK ROUND JOB FAULT [SECONDS]`, for bench.sh and for scenarios.
#
# Wants lib.sh, net_up, target_up, and the stack's disk in $DEV with both paths up; leaves both paths up.
#
#   STACK    a word for the row: sanblk, kernel, kernel-tuned, ...
#   JOB      reads | writes: random 4 KiB, $GAP_IOPS (512) of them a second by $GAP_JOBS (32) threads with one at a time: IO
#            that goes on while some of it is stuck. One thread with a queue would not: fio waits for all that is under
#            way before it pauses. A saturating job would measure its own queue, and threads that pace themselves alike
#            bunch: theirs are random times, as of requests that know nothing of each other.
#   FAULT    in, out, both (packets from, to, from and to the array vanish), down (no carrier), rst, fin (connections
#            end, new ones succeed), none: on the VLAN that carries the IO, or most of it
#   SECONDS  IO goes on for so long after the fault (default 8; longer than the longest stall expected)
#
# Prints one line, all times in milliseconds, fio's log of completions their source:
#
#   @row {"row":"gap","stack":…,"round":…,"job":…,"fault":…,"error":0,
#         "gap_ms":…           longest time between two completions, from the fault on
#         "slowest_ms":…       slowest IO that ended after the fault: one that was under way on the lost path
#         "calm_gap_ms":…      longest time between two completions before the fault, in the same run
#         "calm_slowest_ms":…  slowest IO before the fault
#         "ios":…}             IOs completed from the fault on
#
# Of the goals, "reads" and "new writes" are gap_ms of the two jobs, "in-flight writes" is slowest_ms of the writes. The
# clock is read before the fault is made, which takes some 20 ms: the figures err on the long side.

GAP_CALM=3
GAP_JOBS=32
GAP_IOPS=512

failover_gap() { # STACK ROUND JOB FAULT [SECONDS]
    _after=${5:-8}
    _rw=randread
    [ "$3" = reads ] || _rw=randwrite
    rm -f /tmp/gap_*.log
    fio --direct=1 --ioengine=libaio --thread --randseed="${SEED:-1}" --norandommap --name=gap --filename="$DEV" \
        --rw=$_rw --bs=4k --iodepth=1 --numjobs="$GAP_JOBS" --group_reporting --rate_iops=$((GAP_IOPS / GAP_JOBS)) --rate_process=poisson --size=100% --time_based --runtime=$((GAP_CALM + _after)) \
        --write_lat_log=/tmp/gap --log_unix_epoch=1 --disable_clat=1 --disable_slat=1 \
        --output-format=json --output=/tmp/gap.json >/tmp/gap.out 2>&1 &
    _fio=$!
    # The calm is counted from the first completion, however long fio takes to start.
    io_runs 20
    sleep $GAP_CALM
    GAP_VLAN=$(gap_busy_vlan)
    gap_fault "$4"
    wait $_fio || { cat /tmp/gap.out; fail "fio saw an error: $3, $4, $1"; }
    gap_heal "$4"
    within 60 gap_paths_are 2
    # Log lines: time of completion since the epoch in ms, latency in ns, direction, size, offset.
    sort -n /tmp/gap_lat.*.log | awk -F, -v fault="$GAP_FAULT_MS" '
        { ms = $2 / 1e6 }
        NR > 1 && $1 < fault && $1 - last > calm_gap { calm_gap = $1 - last }
        NR > 1 && $1 >= fault && $1 - last > gap { gap = $1 - last }
        $1 < fault && ms > calm { calm = ms }
        $1 >= fault && ms > slowest { slowest = ms }
        $1 >= fault { n++ }
        { last = $1 }
        END { printf "{\"gap_ms\":%d,\"slowest_ms\":%.1f,\"calm_gap_ms\":%d,\"calm_slowest_ms\":%.1f,\"ios\":%d}\n",
                gap, slowest, calm_gap, calm, n }' >/tmp/gap.row
    sed -n '/^{/,$p' /tmp/gap.json | jq -c --slurpfile times /tmp/gap.row --arg stack "$1" --argjson round "$2" \
        --arg job "$3" --arg fault "$4" \
        '{row: "gap", stack: $stack, round: $round, job: $job, fault: $fault, error: .jobs[0].error} + $times[0]' |
        sed 's/^/@row /'
}

# gap_busy_vlan: 5, unless the other path carries more: a policy may leave one idle, and losing that costs nothing.
# The kernel's stack uses both alike.
gap_busy_vlan() {
    case $DEV in
    /dev/ublkb*)
        _five=$(path_field 5 .completed) _six=$(path_field 6 .completed)
        sleep 0.5
        _five=$(($(path_field 5 .completed) - _five)) _six=$(($(path_field 6 .completed) - _six))
        [ $_five -ge $_six ] && echo 5 || echo 6
        ;;
    *) echo 5 ;;
    esac
}

# gap_fault FAULT: makes it; the moment, as fio's log counts, in $GAP_FAULT_MS.
gap_fault() {
    GAP_FAULT_MS=$(date +%s%3N)
    case $1 in
    in | out | both) link_drop "$GAP_VLAN" "$1" ;;
    down) link_cut "$GAP_VLAN" ;;
    rst) rst_once "$GAP_VLAN" ;;
    fin) fin_once "$GAP_VLAN" ;;
    none) ;;
    *) fail "no such fault: $1" ;;
    esac
}

gap_heal() {
    case $1 in
    in | out | both) link_pass "$GAP_VLAN" ;;
    down) link_give "$GAP_VLAN" ;;
    fin) link_pass "$GAP_VLAN" >/dev/null ;;
    esac
}

# Whichever stack shows $DEV.
gap_paths_are() {
    case $DEV in
    /dev/ublkb*) paths_up "$1" ;;
    *) mpath_paths_are "$1" ;;
    esac
}
