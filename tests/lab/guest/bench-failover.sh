# what: how long IO stands still when a path is lost: sanblk in every round, the kernel's stack in the first
. /host/bench.sh
. /host/gaps.sh
GAP_CALM=2
net_up
target_up size=1G

# gaps STACK ROUND SECONDS JOBS FAULTS: IO goes on for SECONDS after each fault. A stall that is longer is still
# measured in full, since fio waits for what is under way.
gaps() {
    for _job in $4; do
        for _fault in $5; do
            failover_gap "$1" "$2" "$_job" "$_fault" "$3"
        done
    done
}

round=1
while [ "$round" -le "$ROUNDS" ]; do
    say "== round $round of $ROUNDS: sanblk"
    attached
    gaps sanblk "$round" "$ROW_SECONDS" 'reads writes' 'in out both rst fin'
    detach
    if [ "$round" = 1 ]; then
        # Their stalls are timers, the same in every round to some tens of milliseconds, and long.
        DEV=/dev/mapper/mpatha
        say "== kernel-tuned"
        kernel_stack_up tuned
        gaps kernel-tuned "$round" 6 reads 'in out both'
        gaps kernel-tuned "$round" 6 writes 'both rst fin'
        kernel_stack_down
        say "== kernel"
        kernel_stack_up
        gaps kernel "$round" 20 'reads writes' both
        gaps kernel "$round" 6 writes 'rst fin'
        kernel_stack_down
    fi
    round=$((round + 1))
done
