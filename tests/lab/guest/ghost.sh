# The picture of a ghost write, for scenarios: an old write that executes late must not land on a newer one.
#
#   write "PARK…" ---- path A ---->  kept back: in the array's backend (park.py, scripted.py), or in our own kernel's
#                                    send queue because no packet gets out
#   A goes silent; the initiator repeats the write on path B, answers it when it thinks it may
#   write "NEWER…" --- path B ---->  at once after that answer
#   the old copy executes            5 s after the answer, or 20 s after the cut, whichever is first
#   the block must hold "NEWER…"
#
# Nothing here depends on how fast a lost path is noticed.

. /host/lib.sh
CTL=/tmp/ghost
PARKING=/dev/nbd0
GHOSTS=0

# park_up: the disk that keeps writes back, for the array to show.
park_up() {
    modprobe nbd max_part=0 nbds_max=1
    mkdir -p $CTL
    python3 /host/park.py $PARKING 64 $CTL &
    PARK=$!
    within 60 sh -c "[ \$(blockdev --getsize64 $PARKING) = 67108864 ]"
}
park_down() {
    kill -KILL $PARK
    within 5 rmmod nbd
}

# vlan_of_the_write: the VLAN on which a write is under way, of whichever stack shows $DEV.
vlan_of_the_write() {
    case $DEV in
    /dev/ublkb*) field '.paths[] | select(.in_flight > 0) | .portal' | cut -d. -f3 | head -1 ;;
    *)
        for _d in /sys/block/sd*; do
            [ "$(awk '{ print $2 }' "$_d/inflight")" = 0 ] ||
                ls -l /dev/disk/by-path | grep "/$(basename "$_d")\$" | grep -o '10\.20\.[56]' | cut -d. -f3 | head -1
        done
        ;;
    esac
}

# ghost_app BLOCKS WORD: the application, in the background; it starts to write when $CTL/go appears. Only where the
# old write's WORD is PARK does the array keep it back.
ghost_app() {
    GHOSTS=$((GHOSTS + 1))
    (cd $CTL && rm -f parked release released ready go answered overwritten journal)
    # shellcheck disable=SC2086
    python3 /host/overwrite.py "$DEV" $CTL $2-$GHOSTS $1 >$CTL/app.out 2>&1 &
    APP=$!
    within 60 test -e $CTL/ready
}

# ghost_parked LABEL [FAULT]: one write is parked in the array, its path made silent. FAULT: both, in, out, down.
ghost_parked() {
    say "== $1"
    _fault=${2:-both}
    BLOCKS=$((1000 + GHOSTS))
    ghost_app $BLOCKS PARK
    touch $CTL/go
    within 60 test -e $CTL/parked
    VLAN=$(vlan_of_the_write)
    [ -n "$VLAN" ] || fail "the parked write is on no path"
    if [ "$_fault" = down ]; then link_cut "$VLAN"; else link_drop "$VLAN" "$_fault"; fi
    CUT=$(ms)
}

# ghost_released: waits for the end of the park as the picture has it, and ends it.
ghost_released() {
    _answered=
    until [ $(($(ms) - CUT)) -ge 20000 ] || { [ -n "$_answered" ] && [ $(($(ms) - _answered)) -ge 5000 ]; }; do
        [ -n "$_answered" ] || [ ! -e $CTL/answered ] || _answered=$(ms)
        sleep 0.05
    done
    say "the park ends $(($(ms) - CUT)) ms after the cut; the old write is $([ -e $CTL/answered ] && echo answered || echo held back)"
    touch $CTL/release
    within 60 test -e $CTL/released
}

# ghost_heal: the silent path can speak again.
ghost_heal() {
    link_pass "$VLAN"
    [ -n "$(cat "/sys/class/net/san$VLAN/carrier")" ] && link_give "$VLAN" >/dev/null
}

# ghost_over [SECONDS]: the application is through.
ghost_over() {
    within "${1:-60}" test -e $CTL/overwritten
    wait $APP || { cat $CTL/app.out; context; fail "the application saw an error"; }
    cat $CTL/app.out
    # What was parked in more places than the picture knows of would have come by then.
    sleep 1
    [ ! -e $CTL/parked ] || sed 's/^/   executed: /' $CTL/journal
}

# ghost_survived: every newer write is on the disk, and no path owes a proof any more.
ghost_survived() {
    python3 /host/overwrite.py "$DEV" check x-$GHOSTS $BLOCKS || { context; fail "a newer write is LOST"; }
    say "the newer write survived"
    within 60 all_resolved
}
all_resolved() { [ "$(field '.unresolved + .held')" = 0 ]; }

# ghost_own_return LABEL: the path comes back while its write is still parked. Where portal groups differ, its own
# login is the proof.
ghost_own_return() {
    ghost_parked "$1"
    within 60 paths_up 1
    sanblk status
    ghost_heal
    ghost_released
    ghost_over 120
    ghost_survived
    within 60 paths_up 2
}

# ghost_send_queue LABEL [returns]: no packet gets out on VLAN 5, so the old writes of that path sit in our own kernel's
# send queue; the link is given back when all are overwritten. With `returns`: when the path is lost, which is the
# proof where no other portal is in its group. Repeated until a fence was needed, for the path may be found lost
# between two writes. (Answers still come in: a write without one was never acknowledged, its bytes are in the queue.)
ghost_send_queue() {
    _round=1
    until send_queue_round "$@"; do
        _round=$((_round + 1))
        [ $_round -le 10 ] || fail "no write was ever in the send queue when the path was lost"
    done
}
send_queue_round() {
    say "== $1"
    BLOCKS=$(seq 2000 2199 | tr '\n' ' ')
    VLAN=5
    ghost_app "$BLOCKS" OLD
    _losses=$(path_field 5 .losses)
    _fences=$(field .fences.done)
    touch $CTL/go
    sleep 0.5
    link_drop 5 out
    until [ "$(path_field 5 .losses)" -gt "$_losses" ]; do sleep 0.02; done
    say "the path is lost"
    [ "$2" != returns ] || ghost_heal
    ghost_over 120
    [ "$2" = returns ] || ghost_heal
    # Nothing of the old connection is left that could be sent again.
    within 120 eval '[ "$(bytes_unsent)" = 0 ]'
    ghost_survived
    within 60 paths_up 2
    _fences=$(($(field .fences.done) - _fences))
    say "fences needed: $_fences"
    [ $_fences -gt 0 ]
}

# bytes_unsent: not acknowledged, in all sockets to VLAN 5's portal, also those that no process has any more.
bytes_unsent() { ss -Htan "dst $P5:3260" | awk '{ n += $3 } END { print n + 0 }'; }

# ghost_picture LABEL [FAULT]: the whole of it on sanblk, the link given back at the end.
ghost_picture() {
    ghost_parked "$@"
    ghost_released
    ghost_over
    ghost_survived
    sanblk status
    ghost_heal
    within 60 paths_up 2
}

# scripted_up [--reinstate wait|at-once|abort] PORTAL,GROUP...: a target of our own in place of the array's.
scripted_up() {
    mkdir -p $CTL
    ip netns exec tgt python3 /host/scripted.py $CTL "$@" &
    SCRIPTED=$!
    within 60 sh -c '[ "$(ip netns exec tgt ss -Hltn "sport = :3260" | wc -l)" = 2 ]'
}
scripted_down() {
    kill -KILL $SCRIPTED
    waitfor 5 not kill -0 $SCRIPTED
}
