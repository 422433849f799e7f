# lab: time=180 load=waits long=backports
# what: all paths down with --no-path-retry queue, fail and SECONDS, each changed live
# kernel-log-may-say: blocked for more than
. /host/lib.sh
net_up
target_up
attached
verify_fill "$DEV" 8M
all_cut() {
    link_cut 5
    link_cut 6
    within 20 paths_up 0
}
all_given() {
    link_give 5
    link_give 6
    within 30 paths_up 2
}
# One read in the background; its status appears in /tmp/rc.
read_one() {
    rm -f /tmp/rc
    (dd if="$DEV" of=/dev/null bs=4k count=1 skip="$1" iflag=direct 2>/tmp/dd; echo $? >/tmp/rc) &
}
failed() { [ "$(cat /tmp/rc 2>/dev/null)" = 1 ] && grep -q 'Input/output error' /tmp/dd; }

say "== queue: requests wait and then succeed"
same queue "$(field .no_path_retry)" "default"
all_cut
sanblk status
read_one 1
sleep 5
[ ! -e /tmp/rc ] || fail "a request did not wait although no-path-retry is queue"
all_given
within 10 grep -qx 0 /tmp/rc

say "== queue, then fail while requests wait: they fail at once"
all_cut
read_one 2
sleep 2
[ ! -e /tmp/rc ] || fail "a request did not wait"
expect sanblk set "$DEV" --no-path-retry fail
within 3 failed
start=$(ms)
read_one 3
within 3 failed
say "a new request failed after $(($(ms) - start)) ms"
all_given
read_one 3
within 5 grep -qx 0 /tmp/rc

say "== 6 seconds, then failure"
expect sanblk set "$DEV" --no-path-retry 6
all_cut
start=$(ms)
read_one 4
within 15 failed
say "failed $(($(ms) - start)) ms after the last path went down"
all_given

say "== 60 seconds, and the paths come back in time"
expect sanblk set "$DEV" --no-path-retry 60
all_cut
read_one 5
sleep 3
all_given
within 10 grep -qx 0 /tmp/rc
verify_again "$DEV" 8M
detach
