# lab: time=360 load=waits
# what: each portal in a portal group of its own: attach warns, a lost path is fenced by its return, or by the timed hold with LUN RESET
. /host/lib.sh
held_none() { [ "$(field .held)" = 0 ]; }
net_up
target_up groups=each
attached
echo "$_attach_out" | grep -q 'timed' || fail "attach does not warn of the timed hold: $_attach_out"
echo "$_attach_out" | tr -s ' \n' ' ' | grep -q 'timed hold after 310 s' || fail "attach does not say its seconds"
same timed-hold "$(path_field 5 .fence_kind)" "what fences path 5"
same 310 "$(path_field 6 .fence_hold_seconds)" "seconds of the hold of path 6"
same 2 "$(path_field 6 .portal_group)" "portal group of path 6"

say "== fenced by its own return"
verify_start "$DEV" 25
sleep 3
link_drop 5 out
within 15 paths_up 1
io_runs 10
sanblk status
[ "$(field .unresolved)" -gt 0 ] || fail "no write was under way"
link_pass 5
within 30 paths_up 2
within 5 held_none
verify_done
[ "$(field .fences.done)" -gt 0 ] || fail "no fence is counted"
detach

say "== fenced by LOGICAL UNIT RESET, once the target has given the connection up"
attached --allow-fence lun-reset
verify_start "$DEV" 165
sleep 3
link_drop 5 out
within 15 paths_up 1
io_runs 10
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
verify_done
sanblk status
detach
