# what: sanblk's leases beside sanlock's, in turns on one file: what taking and giving one takes, alone and among eight hosts; and renewals while a path is cut
. /host/bench.sh
. /host/leases.sh
T=10

# host_up N: one of each kind, which share the lockspace: north-N, a sanlock with number N, and south-N, a sanblk with number
# 10 + N. Each has a socket of sanlock's in a directory of its own.
host_up() {
    mkdir -p "/run/north-$1" "/run/south-$1"
    SANLOCK_RUN_DIR=/run/north-$1 sanlock daemon -D -w 0 -U root -G root -e "north-$1" >"/tmp/north-$1.log" 2>&1 &
    SANBLK_ROOT=/tmp/south-$1 SANLOCK_RUN_DIR=/run/south-$1 sanblk daemon --sanlock-socket >"/tmp/south-$1.log" 2>&1 &
    echo $! >>/tmp/souths
    within 20 test -S "/run/north-$1/sanlock.sock"
    within 20 test -S "/run/south-$1/sanlock.sock"
    SANLOCK_RUN_DIR=/run/north-$1 expect theirs join LS "$1" "$AREAS" 0 "$T" &
    JOINS="$JOINS $!"
    SANBLK_ROOT=/tmp/south-$1 expect sanblk lease join "$LS" --host-id $((10 + $1)) --host-name "south-$1" --io-timeout "$T" &
    JOINS="$JOINS $!"
}
JOINS=
all_joined() {
    for _join in $JOINS; do wait "$_join" || fail "a host did not join"; done
    JOINS=
}
measured() { python3 /host/bench-leases.py "$@" || fail "measuring: $1"; }

truncate -s 4M /dev/shm/leases
areas_at /dev/shm/leases
export SANBLK_ROOT=/tmp/south-1
expect sanblk lease init lockspace --name LS "$LS"
areas_up /dev/shm/leases
unset SANBLK_ROOT
echo "@version sanlock $(sanlock version)"

say "== one host of each kind"
host_up 1
all_joined
measured alone "$RA" "$ROUNDS" "$((ROW_SECONDS * 8))"
# A lease that its command line takes belongs to a process that it knows: this one has the other resource.
export SANLOCK_RUN_DIR=/run/north-1
they_hold RB "$RB" :SH
unset SANLOCK_RUN_DIR
measured command "$RA" "$ROUNDS" "$((ROW_SECONDS * 3))" "$HOLDER"

say "== eight hosts of each kind"
for n in 2 3 4 5 6 7 8; do host_up $n; done
all_joined
measured crowd "$RA" "$ROUNDS" "$((ROW_SECONDS * 2))"
kill "$HOLDER"
pkill -KILL -x sanlock
while read -r south; do kill "$south"; done </tmp/souths
while read -r south; do within 30 not test -d "/proc/$south"; done </tmp/souths
rm -f "$AREAS"

# --- renewals ---------------------------------------------------------------------------------------------------

# renewed LOAD CUTS ROUND: 250 renewals for each second of a row, one each 20 ms, and the path that they go through cut so often.
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
    rm -f /tmp/cues /tmp/told
    mkfifo /tmp/cues /tmp/told
    # Behind what fio overwrites.
    renewals "$IQN" 0 $((900 * MIB)) "$((ROW_SECONDS * 250))" 20 "$P5:3260" "$P6:3260" \
        </tmp/cues >/tmp/told 2>/tmp/renewals.err &
    _probe=$!
    exec 3>/tmp/cues 4</tmp/told
    _cut=0
    while [ "$_cut" -lt "$2" ]; do
        within 60 paths_up 2
        echo >&3
        read -r _portal <&4 || fail "renewals: $(cat /tmp/renewals.err)"
        _vlan=$(echo "$_portal" | cut -d. -f3)
        link_drop "$_vlan" both
        sleep 1
        link_pass "$_vlan"
        _cut=$((_cut + 1))
    done
    exec 3>&-
    read -r _row <&4 || fail "renewals: $(cat /tmp/renewals.err)"
    exec 4<&-
    wait $_probe || fail "renewals: $(cat /tmp/renewals.err)"
    [ -z "$_fio" ] || { kill -INT "$_fio"; wait "$_fio"; }
    within 60 paths_up 2
    echo "$_row" | jq -c --arg load "$1" --argjson round "$3" \
        '{row: "renewal", stack: "sanblk", load: $load, round: $round} + .' | sed 's/^/@row /'
}

# A program that has died says why; a write to it must not end this one first.
trap '' PIPE

say "== renewals on a volume"
install -m 755 /host/bin/renewals /usr/local/bin/renewals
net_up
target_up size=1G
attached
round=1
while [ "$round" -le "$ROUNDS" ]; do
    renewed idle 0 "$round"
    renewed full 0 "$round"
    renewed "full, cut" 5 "$round"
    round=$((round + 1))
done
detach
