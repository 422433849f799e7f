# lab: time=240 load=waits long=yes with=sanlock-forky
# what: the same as lease-sanlock with the sanlock of Debian 14; then both in areas of the newer versions that it makes
PATH=/host/sanlock-forky/bin:$PATH
. /host/scenarios/lease-sanlock.sh

say "== in areas that they made"
truncate -s 4M /dev/shm/leases
expect sanlock direct init -s "LS:0:$LS"
expect sanlock direct init -r "LS:RA:$RA"
sanlock_up
both_join
they_hold RA "$RA"
refused $HELD sanblk lease acquire "$RA" --mode shared
says "held by host 1 \(north\)"
they_let_go RA
expect sanblk lease acquire "$RA" --mode exclusive
they_are_refused RA "$RA"
expect sanblk lease release "$RA"
they_hold RA "$RA"
leases_down
