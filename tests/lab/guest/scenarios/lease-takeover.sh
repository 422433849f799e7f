# lab: time=260 load=waits
# what: a host that dies, sanlock's daemon or sanblk's, is followed by the other, and not before the time that the format promises
. /host/lib.sh
. /host/leases.sh
T=1
truncate -s 4M /dev/shm/leases
areas_up /dev/shm/leases
sanlock_up
expect theirs init LS 0 "$AREAS" 0 $T
both_join

# A renewal is at most two seconds old when its host dies, and the other looks once a second.
EARLIEST=66000 LATEST=80000
judge() { # SINCE
    took=$(($(ms) - $1))
    say "taken over after $took ms"
    [ $took -ge $EARLIEST ] || fail "too early"
    [ $took -le $LATEST ] || fail "too late"
}

say "== sanblk dies with a lease"
expect sanblk lease acquire "$RA" --mode exclusive
refused $REFUSED sanblk lease leave "$LS"
kill -9 "$(daemon_pid)"
died=$(ms)
within 90 they_try RA "$RA"
judge "$died"
within 10 they_see 2 DEAD

say "== it comes back under the next generation, and sees who has the lease"
we_join
within 10 we_see 1 LIVE
refused $HELD sanblk lease acquire "$RA" --mode exclusive
says "held by host 1 \(north\)"

say "== sanlock's daemon dies with it"
kill -9 "$SANLOCK"
died=$(ms)
kill "$HOLDER"
waitfor 15 not we_see 1 LIVE
expect timeout 100 sanblk lease acquire "$RA" --mode exclusive --wait
judge "$died"
within 10 we_see 1 DEAD
expect sanblk lease release "$RA"
expect sanblk lease leave "$LS"
leases_down
