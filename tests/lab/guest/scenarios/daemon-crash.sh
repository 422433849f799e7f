# lab: time=120 load=waits
# what: kill -9 of the daemon ends in IO errors, not in a hang; the next attach cleans up and the data are there
. /host/lib.sh
net_up
target_up
attached
verify_fill "$DEV" 16M
fio --name=crash --filename="$DEV" --direct=1 --ioengine=libaio --rw=randread --bs=4k --iodepth=8 \
    --time_based --runtime=60 >/tmp/crash.out 2>&1 &
io=$!
sleep 2
pid=$(daemon_pid)
say "kill -9 of the daemon $pid"
start=$(ms)
kill -9 "$pid"
ended() { ! kill -0 $io 2>/dev/null; }
within 20 ended
say "IO ended after $(($(ms) - start)) ms"
wait $io && fail "IO went on without a daemon"
grep -qE 'err= *5|Input/output|No such device|err=19' /tmp/crash.out || { tail -5 /tmp/crash.out; fail "IO ended without an IO error"; }
expect timeout 10 sh -c "! dd if=$DEV of=/dev/null bs=4k count=1 iflag=direct"

say "status says that nothing runs; attach cleans up and starts again"
timeout 10 sanblk status
attached
same 1 "$(ls /dev/ublkc* | wc -l)" "ublk devices"
verify_again "$DEV" 16M
say "no session of the dead daemon is left on the array"
for v in 5 6; do
    same 1 "$(ip netns exec tgt ss -Htn state established src "10.20.$v.254:3260" | wc -l)" "connections on VLAN $v"
done
detach
