# lab: time=90
# what: detach refuses while the device is open, says by whom, and --force says what is lost; both in bounded time
. /host/lib.sh
net_up
target_up
attached
say "== held open"
sleep 1000 <"$DEV" &
holder=$!
refused $REFUSED timeout 20 sanblk detach "$DEV"
says 'open|in use|busy'
paths_up 2 || fail "a refused detach cost a path"
kill $holder

say "== mounted"
expect mkfs.ext4 -q "$DEV"
mkdir -p /mnt/busy
expect mount "$DEV" /mnt/busy
refused $REFUSED timeout 20 sanblk detach "$DEV"
says '/mnt/busy|mount'
expect dd if=/dev/urandom of=/mnt/busy/f bs=1M count=4 conv=fsync
umount /mnt/busy

say "== forced while open"
sleep 1000 <"$DEV" &
holder=$!
start=$(ms)
timeout 40 sanblk detach --force "$DEV" >/tmp/said 2>&1 || { cat /tmp/said; fail "detach --force: status $?"; }
cat /tmp/said
[ $(($(ms) - start)) -lt 30000 ] || fail "detach --force took $(($(ms) - start)) ms"
[ -s /tmp/said ] || fail "detach --force does not say what is lost"
kill $holder 2>/dev/null
within 10 test ! -e "$DEV"

say "== all paths down, requests waiting: detach refuses, --force ends"
attached
link_cut 5
link_cut 6
within 20 paths_up 0
dd if="$DEV" of=/dev/null bs=4k count=1 skip=9 iflag=direct 2>/tmp/dd &
waiting=$!
sleep 1
refused $REFUSED timeout 20 sanblk detach "$DEV"
expect timeout 40 sanblk detach --force "$DEV"
within 10 sh -c "! kill -0 $waiting"
grep -q 'Input/output error' /tmp/dd || fail "the waiting read ended without an error"
