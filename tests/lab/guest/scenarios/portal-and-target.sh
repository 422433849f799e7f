# lab: time=240 load=waits long=backports
# what: portal removed and added, connections reset once and for a while, target stopped, started and made anew, under verified IO
. /host/lib.sh
net_up
target_up
attached
say "== portal removed, added"
verify_start "$DEV" 20
sleep 2
portal_del 6
within 15 paths_up 1
io_runs 5
portal_add 6
within 30 paths_up 2
verify_done

say "== one RST"
verify_start "$DEV" 10
sleep 2
rst_once 5
io_runs 5
within 15 paths_up 2
verify_done

say "== RST to everything on VLAN 5 for a while"
verify_start "$DEV" 15
sleep 2
link_reset 5
within 10 paths_up 1
io_runs 5
link_pass 5
within 30 paths_up 2
verify_done

say "== target stopped and started (default: IO waits)"
verify_start "$DEV" 20
sleep 2
target_stop
within 15 paths_up 0
sleep 2
target_start
within 30 paths_up 2
io_runs 10
verify_done

say "== target torn down and made anew with the same disk"
verify_fill "$DEV" 16M
target_down
within 15 paths_up 0
target_up
within 30 paths_up 2
verify_again "$DEV" 16M
detach
