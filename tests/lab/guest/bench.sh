# lab: boot=own time=3600
# what: sanblk beside open-iscsi + dm-multipath round-robin on the same LUN, in one boot, in turns
# Settings in /host/bench.env: ROUNDS, SECONDS_PER_ROW, CUT_ROUNDS, CUT_SECONDS, RATE, SEED. Each measurement is one line
# "@row {json}"; tests/lab/src/bench.rs makes the table.
. /host/lib.sh
. /host/bench.env
RUNTIME=$SECONDS_PER_ROW
cd /tmp || exit 1
net_up
target_up size=1G

# up STACK [5]: the LUN through both portals, or through VLAN 5 alone; the block device in $DEV.
up() {
    portals='5 6'
    [ -z "$2" ] || portals=$2
    case $1 in
    sanblk)
        flags=
        for v in $portals; do flags="$flags --portal 10.20.$v.254"; done
        # shellcheck disable=SC2086
        expect sanblk attach $flags
        DEV=$(first_device)
        within 15 paths_up "$(echo "$portals" | wc -w)"
        ;;
    kernel | kernel-tuned)
        [ -z "$2" ] || only_portal=$2
        timers=default
        [ "$1" = kernel ] || timers=tuned
        kernel_stack_up $timers
        DEV=/dev/mapper/mpatha
        ;;
    esac
    udevadm settle
    sleep 1
}
down() {
    case $1 in
    sanblk) detach ;;
    *) kernel_stack_down ;;
    esac
    only_portal=
}

busy() { awk '/^cpu /{ print $2 + $3 + $4 + $7 + $8 + $9 }' "$1"; }

# row NAME STACK ROUND FIO-FLAGS...: one measurement.
row() {
    _row=$1 _stack=$2 _round=$3
    shift 3
    fio --direct=1 --ioengine=libaio --thread --randseed="$SEED" --norandommap --name=row --filename="$DEV" \
        --size=100% --time_based --runtime="$RUNTIME" --output-format=json --output=row.json \
        --exec_prerun='cat /proc/stat' --exec_postrun='cat /proc/stat' "$@" >/tmp/fio.out 2>&1 ||
        { cat /tmp/fio.out row.json | head -30; fail "fio: $_row on $_stack"; }
    _busy=$(($(busy row.postrun.txt) - $(busy row.prerun.txt)))
    sed -n '/^{/,$p' row.json | jq -c --arg row "$_row" --arg stack "$_stack" --argjson round "$_round" --argjson busy "$_busy" '
        .jobs[0] as $j | (if $j.read.total_ios > 0 then $j.read else $j.write end) as $d |
        {row: $row, stack: $stack, round: $round, error: $j.error, iops: $d.iops, mib_s: ($d.bw_bytes / 1048576),
         mean_us: ($d.clat_ns.mean / 1000), p99_us: (($d.clat_ns.percentile["99.000000"] // 0) / 1000),
         cpu_us_per_io: ($busy * 10000 / $d.total_ios)}' | sed 's/^/@row /'
}

# gap STACK ROUND: a link is cut under 4 KiB IO; the longest time in which no IO completed.
gap() {
    fio --direct=1 --ioengine=libaio --thread --randseed="$SEED" --norandommap --name=gap --filename="$DEV" \
        --rw=randrw --rwmixread=70 --bs=4k --iodepth=4 --size=100% --time_based --runtime="$CUT_SECONDS" \
        --write_lat_log=gap --output-format=json --output=gap.json >/tmp/fio.out 2>&1 &
    _fio=$!
    sleep 4
    link_cut 5
    wait $_fio || { cat /tmp/fio.out; fail "fio saw an error when a link was cut on $1"; }
    link_give 5
    # Log lines: time of completion in ms, latency, direction, block size.
    _gap=$(cut -d, -f1 gap_clat.1.log | sort -n | awk 'NR > 1 && $1 - last > gap { gap = $1 - last } { last = $1 } END { print gap + 0 }')
    sed -n '/^{/,$p' gap.json | jq -c --arg stack "$1" --argjson round "$2" --argjson gap "$_gap" '.jobs[0] |
        {row: "link cut", stack: $stack, round: $round, error: .error, gap_ms: $gap,
         slowest_ms: ([.read.clat_ns.max, .write.clat_ns.max] | max / 1e6)}' | sed 's/^/@row /'
    rm -f gap_*.log
}

suite() { # STACK ROUND
    row "4k randread qd1" "$1" "$2" --rw=randread --bs=4k --iodepth=1
    row "4k randwrite qd1" "$1" "$2" --rw=randwrite --bs=4k --iodepth=1
    row "4k randread qd32" "$1" "$2" --rw=randread --bs=4k --iodepth=32
    row "4k randwrite qd32" "$1" "$2" --rw=randwrite --bs=4k --iodepth=32
    row "1m read qd8" "$1" "$2" --rw=read --bs=1m --iodepth=8
    row "1m write qd8" "$1" "$2" --rw=write --bs=1m --iodepth=8
}

for v in "kernel $(uname -r)" "$(fio --version)" "$(iscsiadm --version)" \
    "multipath-tools $(dpkg-query -Wf '${Version}' multipath-tools)" "$(sanblk --version 2>/dev/null)" \
    "cpu $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) cores"; do
    echo "@version $v"
done

# The LUN is written once, so that reads find memory on the array's side instead of holes.
expect dd if=/dev/zero of="$STORE/disk0.img" bs=1M count=1024 conv=notrunc

round=1
while [ $round -le "$ROUNDS" ]; do
    order='kernel sanblk'
    [ $((round % 2)) = 1 ] || order='sanblk kernel'
    say "== round $round: $order"
    for stack in $order; do
        up $stack
        suite $stack $round
        down $stack
    done
    round=$((round + 1))
done

round=1
while [ $round -le "$CUT_ROUNDS" ]; do
    say "== a link is cut, round $round"
    for stack in kernel sanblk kernel-tuned; do
        up $stack
        gap $stack $round
        down $stack
    done
    round=$((round + 1))
done

say "== both links shaped to $RATE"
round=1
while [ $round -le "$ROUNDS" ]; do
    for stack in kernel sanblk; do
        for paths in one two; do
            if [ $paths = one ]; then up $stack 5; else up $stack; fi
            shape "$RATE"
            # TCP takes a moment to fill a slow link.
            RUNTIME=$((2 * SECONDS_PER_ROW))
            row "1m read qd8, $RATE, $paths" $stack $round --rw=read --bs=1m --iodepth=8
            row "1m write qd8, $RATE, $paths" $stack $round --rw=write --bs=1m --iodepth=8
            shape off
            RUNTIME=$SECONDS_PER_ROW
            down $stack
        done
    done
    round=$((round + 1))
done
