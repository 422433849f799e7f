# lab: time=180 load=waits
# what: sanlock's daemon and sanblk in one lockspace: each sees the other live; leases refused with their owner, shared, converted, released; lock value blocks across; generations
. /host/lib.sh
. /host/leases.sh
# Less would be over before the 20 s are that an area of ours asks for.
T=3
truncate -s 4M /dev/shm/leases
areas_up /dev/shm/leases
expect sanblk lease init lockspace --name LS "$LS"
sanlock_up

say "== both join, and each sees the other live"
both_join

say "== theirs alone, refused to us with their number and name"
they_hold RA "$RA"
for mode in exclusive shared; do
    refused $HELD sanblk lease acquire "$RA" --mode $mode
    says "RA of lockspace LS is held by host 1 \(north\)"
done
refused $HELD sanblk lease acquire "$RA" --mode exclusive --wait
they_let_go RA

say "== ours alone, refused to them"
expect sanblk lease acquire "$RA" --mode exclusive
they_are_refused RA "$RA"
they_are_refused RA "$RA" :SH
sanlock direct read_leader -r "LS:RA:$RA" | tee /tmp/leader
grep -q '^owner_id 2$' /tmp/leader || fail "the owner is not host 2"
refused $REFUSED sanblk lease leave "$LS"
says "this host holds RA"

say "== shared by both"
expect sanblk lease convert "$RA" --mode shared
they_hold RA "$RA" :SH
refused $HELD sanblk lease convert "$RA" --mode exclusive
says "held shared by host 1 \(north\)"
same shared "$(sanblk lease status --json | jq -r '.lockspaces[0].leases[0].mode')" "our mode"
sanlock client convert -r "LS:RA:$RA" -p $HOLDER && fail "they are alone with what we share"

say "== theirs alone by conversion, once we have let go; and back"
expect sanblk lease release "$RA"
expect sanlock client convert -r "LS:RA:$RA" -p $HOLDER
refused $HELD sanblk lease acquire "$RA" --mode shared
expect sanlock client convert -r "LS:RA:$RA:SH" -p $HOLDER
expect sanblk lease acquire "$RA" --mode shared
they_let_go RA
expect sanblk lease convert "$RA" --mode exclusive
expect sanblk lease release "$RA"

say "== lock value blocks across"
head -c 512 /dev/urandom >/tmp/theirs
expect theirs lvb-set LS RB "$AREAS" $((2 * MIB)) /tmp/theirs
expect sanblk lease acquire "$RB" --mode exclusive --lvb /tmp/read
expect cmp /tmp/theirs /tmp/read
printf 'left by host 2' >/tmp/ours
expect sanblk lease release "$RB" --lvb /tmp/ours
expect theirs lvb-get LS RB "$AREAS" $((2 * MIB)) /tmp/read
expect cmp -n 14 /tmp/ours /tmp/read

say "== we leave and come back under the next generation"
expect sanblk lease leave "$LS"
# They list no number that is free.
within 20 not they_list 2
we_join
same 2 "$(sanblk lease status --json | jq '.lockspaces[0].generation')" "our generation"
within 20 they_see 2 LIVE
sanlock client gets -h 1 | grep -q '^h 2 gen 2 ' || fail "they see another generation"

say "== a number that is in use is refused within moments, and nothing changes"
expect sanblk lease leave "$LS"
sanlock direct dump "$AREAS:0" >/tmp/before
refused $REFUSED sanblk lease join "$LS" --host-id 1 --host-name south --io-timeout $T
says "host id 1 of lockspace LS is in use by north"
same 1 "$(sanlock direct dump "$AREAS:0" | grep -c north)" "slots of north"
expect theirs leave LS 1 "$AREAS" 0
say "== the real tool reads every area that we wrote"
same "$(sanlock direct dump "$AREAS" -f 1)" "$(sanblk lease dump "$AREAS")" "dump"
leases_down
