# A lockspace LS with resources RA and RB, in which another is host 1 (north), sanlock's daemon mostly, and sanblk is host 2
# (south), unless a scenario says it the other way round.
# Both give one IO $T seconds: a host is dead 8 T + 60 s after its last renewal.
: "${THEIR_ID:=1}" "${THEIR_NAME:=north}" "${OUR_ID:=2}" "${OUR_NAME:=south}"

MIB=1048576
# No process has this number.
HOLDER=4194305

# areas_up DEVICE: room for them, left in $LS, $RA and $RB as places; the resources are made by sanblk.
areas_up() {
    areas_at "$1"
    expect sanblk lease init resource --lockspace LS --name RA "$RA"
    expect sanblk lease init resource --lockspace LS --name RB "$RB"
}

areas_at() {
    AREAS=$1
    LS=$AREAS:0 RA=$AREAS:$MIB RB=$AREAS:$((2 * MIB))
}

sanlock_up() {
    mkdir -p "${SANLOCK_RUN_DIR:-/run/sanlock}"
    sanlock daemon -D -w 0 -U root -G root -e "$THEIR_NAME" >"/tmp/sanlock-$THEIR_NAME.log" 2>&1 &
    SANLOCK=$!
    within 10 sanlock client status
}

theirs() { python3 /host/sanlock.py "$@"; }
they_join() { expect theirs join LS "$THEIR_ID" "$AREAS" 0 "$T"; }
we_join() { expect sanblk lease join "$LS" --host-id "$OUR_ID" --host-name "$OUR_NAME" --io-timeout "$T"; }

# Both at once: a slot that nobody ever had is waited for twice the io_timeout that the area was made with.
both_join() {
    they_join &
    we_join
    wait $! || fail "sanlock did not join"
    within 20 we_see "$THEIR_ID" LIVE
    within 20 they_see "$OUR_ID" LIVE
}

# we_see HOST STATE; they_see HOST STATE; they_list HOST
we_see() {
    [ "$(sanblk lease status --json |
        jq -r ".lockspaces[0].hosts[] | select(.host_id == $1) | .state")" = "$2" ]
}
they_list() { sanlock client gets -h 1 | grep -q "^h $1 "; }
they_see() { sanlock client gets -h 1 | grep -q "^h $1 .* $2"; }

# they_hold RESOURCE PLACE [:SH]: a process for which their daemon holds the lease; left in $HOLDER.
they_hold() {
    sanlock client command -r "LS:$1:$2${3:-}" -c /bin/sleep 10000 >/tmp/holder.log 2>&1 &
    HOLDER=$!
    within 15 they_have "$1" $HOLDER
}
# they_try RESOURCE PLACE: like they_hold, one step of many: their daemon refuses at once while the owner seems to live.
they_try() {
    they_have "$1" "$HOLDER" && return
    kill -0 "$HOLDER" 2>/dev/null || {
        sanlock client command -r "LS:$1:$2" -c /bin/sleep 10000 >/tmp/holder.log 2>&1 &
        HOLDER=$!
    }
    return 1
}
they_have() { sanlock client status | grep -q "^r LS:$1:.* p $2\$"; }
they_let_go() {
    kill "$HOLDER"
    wait "$HOLDER"
    within 10 not they_have "$1" "$HOLDER"
}
# Their lease is refused, whatever the command line makes of that.
they_are_refused() { # RESOURCE PLACE [:SH]
    timeout 30 sanlock client command -r "LS:$1:$2${3:-}" -c /bin/touch /tmp/they-got-it >/tmp/refused.log 2>&1
    cat /tmp/refused.log
    [ ! -e /tmp/they-got-it ] || fail "they got $1"
}

leases_down() {
    kill -9 "$SANLOCK" 2>/dev/null
    rm -f "$AREAS" /tmp/they-got-it
}
