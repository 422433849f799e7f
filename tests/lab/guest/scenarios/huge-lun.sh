# lab: time=60
# what: a LUN beyond 2 TiB: its size, and data on both sides of the 32-bit border
. /host/lib.sh
net_up
target_up size=5T disk=huge
attached
same $((5 * 1024 * 1024 * 1024 * 1024)) "$(blockdev --getsize64 "$DEV")" "bytes"
# 2 TiB is 2^32 sectors of 512 bytes: a truncated address would land near the start.
for tib_mib in 0 2097151 2097152 4194304 5242876; do
    dd if=/dev/urandom of=/tmp/p$tib_mib bs=1M count=3 2>/dev/null
    expect dd if=/tmp/p$tib_mib of="$DEV" bs=1M seek=$tib_mib oflag=direct conv=notrunc
done
for tib_mib in 0 2097152 4194304 5242876; do
    expect sh -c "dd if=$DEV bs=1M skip=$tib_mib count=3 iflag=direct 2>/dev/null | cmp - /tmp/p$tib_mib"
    expect cmp -n 3145728 -i $((tib_mib * 1048576)):0 "$STORE/huge0.img" /tmp/p$tib_mib
done
[ "$(backing_kib huge0)" -lt 65536 ] || fail "$(backing_kib huge0) KiB allocated for 14 MiB"
detach
