# lab: time=180 load=waits kernel=stable
# what: a host that dies with a lease, sanlock's or sanblk's, is followed by one of the other kind, and not before the time that the format promises
. /host/lib.sh
. /host/leases.sh
T=1
# Two lockspaces with two hosts each, so that both deaths are waited for at once. On the second, sanblk is host 1.
truncate -s 4M /dev/shm/leases /dev/shm/more
first() {
    areas_at /dev/shm/leases
    THEIR_ID=1 THEIR_NAME=north OUR_ID=2 OUR_NAME=south
    unset SANLOCK_RUN_DIR SANBLK_ROOT
}
second() {
    areas_at /dev/shm/more
    THEIR_ID=2 THEIR_NAME=east OUR_ID=1 OUR_NAME=west
    export SANLOCK_RUN_DIR=/run/sanlock-east SANBLK_ROOT=/tmp/west
}
first
areas_up "$AREAS"
sanlock_up
NORTH=$SANLOCK
expect theirs init LS 0 "$AREAS" 0 $T
second
areas_up "$AREAS"
sanlock_up
EAST=$SANLOCK
expect theirs init LS 0 "$AREAS" 0 $T
(first; both_join) &
(second; both_join) || exit 1
wait $! || exit 1

# A renewal is at most two seconds old when its host dies, and the other looks once a second.
EARLIEST=66000 LATEST=80000
judge() { # SINCE
    took=$(($(ms) - $1))
    say "taken over after $took ms"
    [ $took -ge $EARLIEST ] || fail "too early"
    [ $took -le $LATEST ] || fail "too late"
}

say "== sanblk dies with a lease, and elsewhere sanlock's daemon"
first
expect sanblk lease acquire "$RA" --mode exclusive
refused $REFUSED sanblk lease leave "$LS"
second
they_hold RA "$RA"
kill -9 "$EAST"
theirs_died=$(ms)
kill "$HOLDER"
wait "$HOLDER"
(
    waitfor 15 not we_see 2 LIVE
    expect timeout 100 sanblk lease acquire "$RA" --mode exclusive --wait
    judge "$theirs_died"
) &
FOLLOWS=$!
first
kill -9 "$(daemon_pid)"
ours_died=$(ms)
within 90 they_try RA "$RA"
judge "$ours_died"
within 10 they_see 2 DEAD
wait $FOLLOWS || exit 1

say "== sanblk has what a dead sanlock had"
second
within 10 we_see 2 DEAD
expect sanblk lease release "$RA"
expect sanblk lease leave "$LS"

say "== sanblk comes back under the next generation, and sees who has the lease"
first
we_join
same 2 "$(sanblk lease status --json | jq '.lockspaces[0].generation')" "our generation"
within 10 we_see 1 LIVE
refused $HELD sanblk lease acquire "$RA" --mode exclusive
says "held by host 1 \(north\)"
expect sanblk lease leave "$LS"
SANLOCK=$NORTH
leases_down
SANBLK_ROOT=/tmp/west sanblk status --json | jq .daemon.pid | xargs kill
rm /dev/shm/more
