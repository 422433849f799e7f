# lab: time=180 load=waits kernel=stable
# what: sanlock's daemon and sanblk in one lockspace: each sees the other live; leases refused with their owner, shared, converted, released; lock value blocks across; generations
. /host/lib.sh
. /host/leases.sh
# Less would be over before the 20 s are that an area of ours asks for.
T=3
truncate -s 4M /dev/shm/leases
areas_up /dev/shm/leases
expect sanblk lease init lockspace --name LS "$LS"
sanlock_up
say "sanlock $(sanlock version), host $THEIR_ID; sanblk, host $OUR_ID"

say "== both join, and each sees the other live"
both_join

say "== theirs alone, refused to us with their number and name"
they_hold RA "$RA"
for mode in exclusive shared; do
    refused $HELD sanblk lease acquire "$RA" --mode $mode
    says "RA of lockspace LS is held by host $THEIR_ID \($THEIR_NAME\)"
done
refused $HELD sanblk lease acquire "$RA" --mode exclusive --wait
they_let_go RA

say "== ours alone, refused to them"
expect sanblk lease acquire "$RA" --mode exclusive
they_are_refused RA "$RA"
they_are_refused RA "$RA" :SH
sanlock direct read_leader -r "LS:RA:$RA" | tee /tmp/leader
grep -q "^owner_id $OUR_ID\$" /tmp/leader || fail "the owner is not host $OUR_ID"
refused $REFUSED sanblk lease leave "$LS"
says "this host holds RA"

say "== shared by both"
expect sanblk lease convert "$RA" --mode shared
they_hold RA "$RA" :SH
refused $HELD sanblk lease convert "$RA" --mode exclusive
says "held shared by host $THEIR_ID \($THEIR_NAME\)"
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
printf 'left by sanblk' >/tmp/ours
expect sanblk lease release "$RB" --lvb /tmp/ours
expect theirs lvb-get LS RB "$AREAS" $((2 * MIB)) /tmp/read
expect cmp -n 14 /tmp/ours /tmp/read

say "== we leave and come back under the next generation"
expect sanblk lease leave "$LS"
# They list no number that is free.
within 20 not they_list "$OUR_ID"
we_join
same 2 "$(sanblk lease status --json | jq '.lockspaces[0].generation')" "our generation"
within 20 they_see "$OUR_ID" LIVE
sanlock client gets -h 1 | grep -q "^h $OUR_ID gen 2 " || fail "they see another generation"

say "== a number that is in use is refused within moments, and nothing changes"
expect sanblk lease leave "$LS"
sanlock direct dump "$AREAS:0" >/tmp/before
refused $REFUSED sanblk lease join "$LS" --host-id "$THEIR_ID" --host-name "$OUR_NAME" --io-timeout $T
says "host id $THEIR_ID of lockspace LS is in use by $THEIR_NAME"
same 1 "$(sanlock direct dump "$AREAS:0" | grep -c "$THEIR_NAME")" "slots of $THEIR_NAME"
expect theirs leave LS "$THEIR_ID" "$AREAS" 0
say "== the real tool reads every area that we wrote"
# (sanlock 5 shows the flags of a slot as well.)
same "$(sanlock direct dump "$AREAS" -f 1 | sed 's/ 0x[0-9a-f]*$//')" "$(sanblk lease dump "$AREAS")" "dump"
leases_down
