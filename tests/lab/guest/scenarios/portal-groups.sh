# lab: time=360 load=waits long=backports
# what: each portal in a portal group of its own: attach warns, a lost path is fenced by its return, or by the timed hold with LUN RESET
. /host/lib.sh
held_none() { [ "$(field .held)" = 0 ]; }
# Writes alone, so that some are under way whenever a link is lost.
writes_start() { # SECONDS
    $FIO --name=writes --filename="$DEV" --rw=randwrite --bs=4k --iodepth=16 --size=256M --time_based --runtime="$1" \
        --output=/tmp/writes.out &
    WRITES=$!
}
# Every write of the job may be among those that wait for the fence: another one elsewhere does not.
others_write() {
    expect timeout $((15 * ${PATIENCE:-1})) $FIO --name=others --filename="$DEV" --rw=write --bs=4k --offset=512M --size=256k --output=/tmp/others.out
}
writes_done() { wait "$WRITES" || { tail -20 /tmp/writes.out; context; fail "IO failed"; }; }
net_up
target_up groups=each
attached
echo "$_attach_out" | grep -q 'timed' || fail "attach does not warn of the timed hold: $_attach_out"
echo "$_attach_out" | tr -s ' \n' ' ' | grep -q 'timed hold after 310 s' || fail "attach does not say its seconds"
same timed-hold "$(path_field 5 .fence_kind)" "what fences path 5"
same 310 "$(path_field 6 .fence_hold_seconds)" "seconds of the hold of path 6"
same 2 "$(path_field 6 .portal_group)" "portal group of path 6"

say "== fenced by its own return"
writes_start 25
io_runs 20
link_drop 5 out
within 15 paths_up 1
others_write
sanblk status
[ "$(field .unresolved)" -gt 0 ] || fail "no write was under way"
link_pass 5
within 30 paths_up 2
within 5 held_none
writes_done
[ "$(field .fences.done)" -gt 0 ] || fail "no fence is counted"
detach

say "== fenced by LOGICAL UNIT RESET, once the target has given the connection up"
attached --allow-fence lun-reset
writes_start 165
io_runs 20
link_drop 5 out
within 15 paths_up 1
others_write
sanblk status
[ "$(field .held)" -gt 0 ] || fail "no write is held"
sleep 100
[ "$(field .fences.done)" = 0 ] || fail "fenced too early"
within 60 held_none
took=$(field .fences.last_ms)
[ "$took" -ge 130000 ] && [ "$took" -lt 140000 ] || fail "the fence took $took ms"
io_runs 10
link_pass 5
within 30 paths_up 2
writes_done
verify_fill "$DEV" 16M
sanblk status
detach
