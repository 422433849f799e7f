# what: sanblk's leases beside sanlock's, in turns on one file: what taking and giving one takes
. /host/bench.sh
. /host/leases.sh
T=3
truncate -s 4M /dev/shm/leases
areas_up /dev/shm/leases
expect sanblk lease init lockspace --name LS "$LS"
sanlock_up
echo "@version sanlock $(sanlock version)"
both_join
# Their leases belong to a process: this one has the other resource.
they_hold RB "$RB"
python3 /host/bench-leases.py "$RA" "$HOLDER" "$ROUNDS" "$((ROW_SECONDS * 4))" || fail "a lease was refused"
they_let_go RB
expect sanblk lease leave "$LS"
leases_down
