# what: sanblk beside open-iscsi + dm-multipath round-robin: what an IO costs on links without a limit, in turns
. /host/bench.sh
net_up
target_up size=1G
# The LUN is written once, so that reads find memory on the array's side instead of holes.
expect dd if=/dev/zero of="$STORE/disk0.img" bs=1M count=1024 conv=notrunc

# up STACK: the LUN through both portals; the block device in $DEV.
up() {
    case $1 in
    sanblk) attached >/dev/null ;;
    kernel)
        kernel_stack_up
        DEV=/dev/mapper/mpatha
        ;;
    esac
    sleep 1
}
down() {
    case $1 in
    sanblk) detach ;;
    kernel) kernel_stack_down ;;
    esac
}

round=1
while [ "$round" -le "$ROUNDS" ]; do
    order=$(rotated $((round % 2)) sanblk kernel)
    say "== round $round of $ROUNDS: $order"
    for stack in $order; do
        up "$stack"
        jobs_begin
        for depth in 1 32; do
            job 4k-randread-qd$depth "$ROW_SECONDS" 0 rw=randread bs=4k iodepth=$depth
            job 4k-randwrite-qd$depth "$ROW_SECONDS" 0 rw=randwrite bs=4k iodepth=$depth
        done
        job 1m-read-qd8 "$ROW_SECONDS" 0 rw=read bs=1m iodepth=8
        job 1m-write-qd8 "$ROW_SECONDS" 0 rw=write bs=1m iodepth=8
        jobs_run "{\"stack\":\"$stack\",\"round\":$round}"
        down "$stack"
    done
    round=$((round + 1))
done
