# lab: time=60
# what: a write-protected LUN becomes a read-only device
. /host/lib.sh
net_up
target_up size=64M disk=prot
dd if=/dev/urandom of="$STORE/prot0.img" bs=1M count=64 conv=notrunc 2>/dev/null
sum=$(sha256sum <"$STORE/prot0.img")
echo 1 >"$C/iscsi/$IQN/tpgt_1/attrib/demo_mode_write_protect"
attached
same 1 "$(attr ro)" "read-only flag"
same "$sum" "$(sha256sum <"$DEV")" "content"
refute dd if=/dev/zero of="$DEV" bs=4k count=1 oflag=direct
same "$sum" "$(sha256sum <"$STORE/prot0.img")" "content of the array after a write was tried"
detach
