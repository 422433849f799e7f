# lab: time=240 load=waits long=backports
# what: a path is failed, restored, removed and added again under verified IO; events tells each; the last one is kept
. /host/lib.sh
net_up
target_up
attached

connections() { ss -Htn state established dst "10.20.$1.254:3260" | wc -l; }
state() { [ "$(path_field "$1" .state)" = "$2" ]; }
# told VLAN STATE: the last event of this path is that state.
told() {
    same "$2" "$(sanblk events "$DEV" --json |
        jq -r "[.events[] | select(.state != null and (.portal | startswith(\"10.20.$1.\")))] | last | .state")" \
        "last event of VLAN $1"
}

say "== fail: out at once, IO goes on, and it stays out"
verify_start "$DEV" 60
sleep 3
expect sanblk path fail "$DEV" "$P5"
state 5 offline || fail "path 5 is $(path_field 5 .state)"
same 0 "$(connections 5)" "connections of the failed path"
same degraded "$(field .health)" "health"
io_runs 10
told 5 offline
sleep 7
# Neither a second attach nor a carrier that comes back undoes it.
attach
link_cut 5 host >/dev/null
link_give 5 >/dev/null
sleep 2
state 5 offline || fail "path 5 is $(path_field 5 .state)"
same 0 "$(connections 5)" "connections of the failed path"
same 0 "$(path_field 5 .penalty)" "penalty of a planned loss"
sanblk status

say "== restore: back at once"
expect sanblk path restore "$DEV" "$P5"
within 5 paths_up 2
told 5 up
io_runs 5

say "== remove: finishes, logs out, is gone"
expect sanblk path remove "$DEV" "$P6"
same 1 "$(field '.paths | length')" "paths"
same 0 "$(connections 6)" "connections of the removed path"
same up "$(field .health)" "health"
told 6 removed
io_runs 5

say "== the last path is kept, with a sentence"
refused $REFUSED sanblk path remove "$DEV" "$P5"
says "last path"
refused $NOT_FOUND sanblk path fail "$DEV" "$P6"
says "its paths are: $P5"
refused $NOT_FOUND sanblk path fail /dev/ublkb7 "$P5"

say "== attach adds it again"
attach
within 10 paths_up 2
told 6 up
io_runs 5
verify_done

say "== the only path that works is not removed, but may be failed: IO waits"
link_drop 5 both
within 15 paths_up 1
refused $REFUSED sanblk path remove "$DEV" "$P6"
says "only path that carries IO"
expect sanblk path fail "$DEV" "$P6"
same no-path "$(field .health)" "health"
$FIO --name=wait --filename="$DEV" --rw=write --bs=4k --size=64k >/tmp/wait.out 2>&1 &
waiting=$!
sleep 2
kill -0 $waiting || fail "IO without a path ended: $(cat /tmp/wait.out)"
expect sanblk path restore "$DEV" "$P6"
wait $waiting || fail "IO failed: $(cat /tmp/wait.out)"
link_pass 5
within 30 paths_up 2

say "== everything is told, also after the detach"
detach
sanblk events "$DEV"
for word in attached offline removed 'down: ' detached; do
    sanblk events "$DEV" | grep -q "$word" || fail "no event says $word"
done
