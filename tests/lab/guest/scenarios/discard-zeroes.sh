# lab: time=90
# what: discard and write-zeroes reach the array (its allocation shrinks), read back as zeroes, fall back where the target lacks them
. /host/lib.sh
net_up
zero_range() { expect cmp -n "$3" -i "$2:0" "$1" /dev/zero; }
for backstore in fileio iblock; do
    say "== thin LUN, $backstore"
    target_up backstore=$backstore size=256M disk=thin$backstore
    attached
    expect dd if=/dev/urandom of="$DEV" bs=1M count=64 oflag=direct
    full=$(backing_kib thin${backstore}0)
    [ "$full" -ge 65536 ] || fail "64 MiB written, $full KiB allocated"
    expect blkdiscard -o $((16 << 20)) -l $((32 << 20)) "$DEV"
    less=$(backing_kib thin${backstore}0)
    [ "$less" -le $((full - 32768 + 1024)) ] || fail "32 MiB discarded, allocation went from $full to $less KiB"
    expect fallocate -z -o 0 -l $((8 << 20)) "$DEV"
    zero_range "$DEV" 0 $((8 << 20))
    expect blkdiscard -z -o $((48 << 20)) -l $((8 << 20)) "$DEV"
    zero_range "$DEV" $((48 << 20)) $((8 << 20))
    say "allocated: $full KiB full, $less after the discard, $(backing_kib thin${backstore}0) after zeroing"
    verify_fill "$DEV" 8M
    detach
    target_down
done
say "== a LUN that is not thin: no discard, zeroes still zero"
target_up thin=off size=128M disk=thick
attached
same 0 "$(attr queue/discard_max_bytes)" "discard_max_bytes of a thick LUN"
expect dd if=/dev/urandom of="$DEV" bs=1M count=16 oflag=direct
refute blkdiscard "$DEV"
expect blkdiscard -z -l $((4 << 20)) "$DEV"
zero_range "$DEV" 0 $((4 << 20))
expect test "$(dd if="$DEV" bs=1M skip=4 count=1 iflag=direct 2>/dev/null | tr -d '\0' | wc -c)" -gt 1000000
detach
