# lab: time=200 load=waits kernel=stable
# what: a disk that hangs never hangs the daemon; a lease comes back with it if nobody took it, and is lost for good if somebody did
. /host/lib.sh
. /host/leases.sh
T=1
modprobe -a loop dm-mod
truncate -s 4M /dev/shm/leases
LOOP=$(losetup --find --show /dev/shm/leases)
areas_up "$LOOP"
sanlock_up
expect theirs init LS 0 "$AREAS" 0 $T
kill "$SANLOCK"
# Ours is /dev/mapper/leases; the other host, sanblk too, has the disk without what hangs.
dmsetup create leases --table "0 8192 linear $LOOP 0"
areas_at /dev/mapper/leases
trap 'dmsetup resume leases 2>/dev/null' EXIT
TIMED_OUT=10
other() { SANBLK_ROOT=/tmp/other sanblk lease "$@"; }
expect other join "$LOOP" --host-id 1 --host-name north --io-timeout $T
we_join
within 10 we_see 1 LIVE
expect sanblk lease acquire "$RA" --mode exclusive
our() { sanblk lease status --json | jq -r ".lockspaces[0].$1"; }
we_are() { [ "$(our state)" = "$1" ]; }
they_saw() { [ "$(other status --json | jq -r '.lockspaces[0].hosts[] | select(.host_id == 2) | .state')" = "$1" ]; }

say "== it hangs for a while"
dmsetup suspend --noflush --nolockfs leases
within 15 we_are lost
same RA "$(our 'leases[0].name')" "the lease that waits to be won back"
sanblk lease status
# Who looks at the disk meets the hang, and nobody else does.
refused $TIMED_OUT sanblk lease acquire "$RB" --mode exclusive
says "has not answered for 10 s"
expect timeout 5 sanblk status
within 15 they_saw FAIL
dmsetup resume leases
within 15 we_are joined
same 2 "$(our generation)" "our generation"
same RA "$(our 'leases[0].name')" "the lease that was won back"
within 10 they_saw LIVE
refused $HELD other acquire "$LOOP:$MIB" --mode exclusive
says "held by host 2 \(south\), generation 2"

say "== it hangs until the other host has the lease"
dmsetup suspend --noflush --nolockfs leases
within 90 they_saw DEAD
expect other acquire "$LOOP:$MIB" --mode exclusive
dmsetup resume leases
within 15 we_are refused
same 0 "$(our 'leases | length')" "leases"
sanblk lease status
refused $REFUSED sanblk lease acquire "$RB" --mode exclusive

say "== the way back: leave, and join again"
expect sanblk lease leave "$LS"
we_join
within 10 we_see 1 LIVE
refused $HELD sanblk lease acquire "$RA" --mode exclusive
says "held by host 1 \(north\)"
expect other release "$LOOP:$MIB"
expect sanblk lease acquire "$RA" --mode exclusive
expect sanblk lease release "$RA"
expect sanblk lease leave "$LS"
expect other leave "$LOOP"
SANBLK_ROOT=/tmp/other sanblk status --json | jq .daemon.pid | xargs kill
dmsetup remove leases
losetup -d "$LOOP"
rm /dev/shm/leases
