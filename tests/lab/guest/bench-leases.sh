# what: sanblk's leases beside sanlock's, in turns on one file: what taking and giving one takes, alone and among eight hosts; and renewals while a path is cut
. /host/bench.sh
. /host/leases.sh
T=3
# Of each kind, beside the first pair.
CROWD='3 4 5 6 7 8 9'

# crowd_join, crowd_leave: seven more hosts of each kind, sanlock's from 3 on, sanblk's from 11 on, all with RB shared, for
# their leases belong to a process.
crowd_join() {
    for _n in $CROWD; do
        export SANLOCK_RUN_DIR=/run/sanlock-$_n
        mkdir -p "$SANLOCK_RUN_DIR"
        sanlock daemon -D -w 0 -U root -G root -e "north-$_n" >"/tmp/sanlock-$_n.log" 2>&1 &
        within 10 sanlock client status
        expect theirs join LS "$_n" "$AREAS" 0 "$T" &
        SANBLK_ROOT=/tmp/south-$_n expect sanblk lease join "$LS" --host-id $((_n + 8)) \
            --host-name "south-$_n" --io-timeout "$T" &
    done
    for _n in $CROWD; do
        SANLOCK_RUN_DIR=/run/sanlock-$_n within 60 has_joined
        SANBLK_ROOT=/tmp/south-$_n within 60 we_joined
        export SANLOCK_RUN_DIR=/run/sanlock-$_n
        sanlock client command -r "LS:RB:$RB:SH" -c /bin/sleep 10000 >"/tmp/holder-$_n.log" 2>&1 &
        echo $! >"/tmp/holder-$_n.pid"
        within 30 they_have RB "$(cat "/tmp/holder-$_n.pid")"
    done
    unset SANLOCK_RUN_DIR
}
has_joined() { sanlock client status | grep -q "^s LS:"; }
we_joined() { [ "$(sanblk lease status --json | jq -r '.lockspaces[0].state')" = joined ]; }
crowd_leave() {
    for _n in $CROWD; do
        kill "$(cat "/tmp/holder-$_n.pid")"
        SANBLK_ROOT=/tmp/south-$_n expect sanblk lease leave "$LS"
    done
    pkill -KILL -x sanlock
}

say "== one host of each kind"
truncate -s 4M /dev/shm/leases
areas_up /dev/shm/leases
expect sanblk lease init lockspace --name LS "$LS"
sanlock_up
echo "@version sanlock $(sanlock version)"
both_join
# Their leases belong to a process: this one has the other resource, as all of them will.
they_hold RB "$RB" :SH
python3 /host/bench-leases.py alone "$RA" "$HOLDER" "$ROUNDS" "$((ROW_SECONDS * 4))" || fail "a lease was refused"

say "== eight hosts of each kind"
crowd_join
echo "$HOLDER" >/tmp/holder-1.pid
python3 /host/bench-leases.py crowd "$RA" "$HOLDER" "$ROUNDS" "$ROW_SECONDS" || fail "a lease was never free"
they_let_go RB
crowd_leave
expect sanblk lease leave "$LS"
leases_down

# --- renewals ---------------------------------------------------------------------------------------------------

# renewed LOAD FAULT ROUND: for so many seconds that one cut is one of a thousand.
renewed() {
    _fio=
    case $1 in
    full*)
        fio --direct=1 --ioengine=libaio --thread --randseed="$SEED" --norandommap --filename="$DEV" --size=512M --bs=64k \
            --iodepth=32 --time_based --runtime=600 --name=reads --rw=randread --name=writes --rw=randwrite >/tmp/full.out 2>&1 &
        _fio=$!
        io_runs 20
        ;;
    esac
    rm -f /tmp/renewals
    mkfifo /tmp/renewals
    # Two seconds before, and behind what fio overwrites.
    renewals "$IQN" 0 $((900 * MIB)) "$((ROW_SECONDS * 250))" 50 "$P5:3260" "$P6:3260" >/tmp/renewals 2>/tmp/renewals.err &
    _probe=$!
    {
        read -r _portal || fail "renewals: $(cat /tmp/renewals.err)"
        _vlan=$(echo "$_portal" | cut -d. -f3)
        [ "$2" = none ] || link_drop "$_vlan" "$2"
        read -r _row || fail "renewals: $(cat /tmp/renewals.err)"
    } </tmp/renewals
    wait $_probe || fail "renewals: $(cat /tmp/renewals.err)"
    [ "$2" = none ] || link_pass "$_vlan"
    [ -z "$_fio" ] || { kill -INT "$_fio"; wait "$_fio"; }
    within 60 paths_up 2
    echo "$_row" | jq -c --arg load "$1" --argjson round "$3" \
        '{row: "renewal", stack: "sanblk", load: $load, round: $round} + .' | sed 's/^/@row /'
}

say "== renewals on a volume"
install -m 755 /host/bin/renewals /usr/local/bin/renewals
net_up
target_up size=1G
attached
round=1
while [ "$round" -le "$ROUNDS" ]; do
    renewed idle none "$round"
    renewed full none "$round"
    renewed "full, cut" both "$round"
    round=$((round + 1))
done
detach
