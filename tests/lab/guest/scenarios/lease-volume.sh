# lab: time=300 kernel=stable load=waits
# what: a lockspace on a volume that sanblk carries, beside sanlock's daemon on the array: one path cut changes nothing; both cut, writes wait, and go on if nobody took over, or fail for good if somebody did
. /host/lib.sh
. /host/leases.sh
T=1
# sanlock on the array's own block device, LIO with iblock on the same one: neither goes through a page cache that the
# other does not see.
modprobe -a loop
truncate -s 300M /dev/shm/leases
LOOP=$(losetup --find --show /dev/shm/leases)
net_up
target_up backstore=iblock device="$LOOP"
attached
areas_at "$LOOP"
THEIR_RA=$RA THEIR_RB=$RB
sanlock_up
expect theirs init LS 0 "$LOOP" 0 $T
LS=$DEV:0 RA=$DEV:$MIB RB=$DEV:$((2 * MIB))
expect sanblk lease init resource --lockspace LS --name RA "$RA"
expect sanblk lease init resource --lockspace LS --name RB "$RB"

our() { sanblk lease status --json | jq -r ".lockspaces[0].$1"; }
we_are() { [ "$(our state)" = "$1" ]; }
gate() { field ".gate.$1"; }
gate_is() { [ "$(gate state)" = "$1" ]; }
sessions_are() { [ "$(our 'sessions | map(.state) | sort | join(" ")')" = "$1" ]; }
all_cut() {
    link_cut 5
    link_cut 6
    CUT=$(ms)
}
all_given() {
    link_give 5
    link_give 6
}
# One write in the background; its status appears in /tmp/rc.
write_one() {
    rm -f /tmp/rc
    (dd if=/dev/zero of="$DEV" bs=4k count=1 seek=2048 oflag=direct 2>/tmp/dd; echo $? >/tmp/rc) &
}
wrote() { [ "$(cat /tmp/rc 2>/dev/null)" = "$1" ]; }

say "== both join, over sessions of the keeper's own"
both_join
same "$DEV" "$(our volume)" "the volume that it guards"
within 10 sessions_are "current ready"
same LS "$(gate lockspace)" "the lockspace that the writes depend on"
same open "$(gate state)" "gate"
sanblk status
sanblk lease status

say "== theirs is refused to us, ours to them"
they_hold RA "$THEIR_RA"
refused $HELD sanblk lease acquire "$RA" --mode exclusive
says "held by host 1 \(north\)"
they_let_go RA
expect sanblk lease acquire "$RA" --mode exclusive
they_are_refused RA "$THEIR_RA"
sanlock direct read_leader -r "LS:RA:$THEIR_RA" | grep '^owner_id 2$' || fail "the owner is not host 2"

say "== what guards a volume keeps it attached"
refused $REFUSED sanblk detach "$DEV"
says "its writes depend on lockspace LS"
says "sanblk lease leave $DEV:0"
refused $REFUSED sanblk lease leave "$LS"

say "== one VLAN is cut under IO"
verify_start "$DEV" 70 --offset=16M
for vlan in 5 6; do
    link_cut $vlan
    within 10 paths_up 1
    # Longer than the gate stays open without a renewal.
    sleep 10
    same open "$(gate state)" "gate"
    same 1 "$(our generation)" "our generation"
    io_runs 5
    link_give $vlan
    within 30 paths_up 2
    within 30 sessions_are "current ready"
done

say "== both are cut until the gate shuts, and come back before anybody took over"
all_cut
within 15 gate_is shut
say "shut after $(($(ms) - CUT)) ms"
within 5 we_are lost
sanblk status
sanblk lease status
all_given
within 45 we_are joined
say "joined again after $(($(ms) - CUT)) ms"
same 2 "$(our generation)" "our generation"
same RA "$(our 'leases[0].name')" "the lease that was won back"
within 5 gate_is open
within 30 paths_up 2
io_runs 10
verify_done
they_are_refused RA "$THEIR_RA"

say "== both are cut until they have the lease"
all_cut
within 15 gate_is shut
write_one
within 90 they_try RA "$THEIR_RA"
say "taken over after $(($(ms) - CUT)) ms"
[ ! -e /tmp/rc ] || fail "a write did not wait"
all_given
within 60 we_are refused
within 10 wrote 1
grep 'Invalid exchange' /tmp/dd || fail "the write failed with another error: $(cat /tmp/dd)"
same refused "$(gate state)" "gate"
expect dd if="$DEV" of=/dev/null bs=4k count=1 iflag=direct
sanblk status | grep 'every write fails' || fail "status does not say that writes fail"
write_one
within 5 wrote 1
refused $REFUSED sanblk lease acquire "$RB" --mode exclusive

say "== the way back: leave, detach, attach, join"
within 30 paths_up 2
expect sanblk lease leave "$LS"
refused $REFUSED sanblk lease join "$LS" --host-id 2 --host-name south --io-timeout $T
says "detach it, attach it again"
detach
attached
we_join
refused $HELD sanblk lease acquire "$RA" --mode exclusive
says "held by host 1 \(north\)"
they_let_go RA
expect sanblk lease acquire "$RA" --mode exclusive
write_one
within 5 wrote 0

say "== a forced detach gives the lockspace up"
expect sanblk detach --force "$DEV"
within 5 test ! -e "$DEV"
within 5 we_are null
attached
we_join
expect sanblk lease acquire "$RA" --mode exclusive
expect sanblk lease release "$RA"
expect sanblk lease leave "$LS"
same null "$(gate state)" "gate"
detach
kill -9 "$SANLOCK"
target_down
rm -f /dev/shm/leases
