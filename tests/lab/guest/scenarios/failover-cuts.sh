# lab: time=240 load=waits long=backports
# what: random cuts and returns of both links in both directions under verified IO, on LIO fileio and iblock: no error
# CUTS and SEED may be set in /host/params (cargo lab cuts).
. /host/lib.sh
CUTS=10 SEED=1
[ ! -f /host/params ] || . /host/params
net_up
for backstore in fileio iblock; do
    target_up backstore=$backstore size=1G
    attached
    say "== $backstore"
    # Paced, for the emulated cores are for the cuts, and on a small area, so that every block is overwritten again
    # within a second or two: a write that executes late meets a newer one. fio stamps each block with its place, a
    # sequence number and a checksum.
    verify_start "$DEV" 100000 --size=1M --iodepth=8 --rate_iops=200 --verify_write_sequence=1 --randseed=$SEED
    io_runs 60
    python3 /host/cuts.py "$DEV" $CUTS $SEED $backstore || { context; fail "cuts on $backstore"; }
    kill -INT $VERIFY
    # fio's word for "interrupted, and no error until then".
    wait $VERIFY
    same 128 $? "fio's exit status"
    sed -n '/^{/,$p' /tmp/verify.json | jq -r --arg b $backstore '.jobs[0] |
        "end, seed '$SEED', \($b): fio wrote \(.write.total_ios), read back and compared \(.read.total_ios), error \(.error)"'
    detach
    target_down
done
