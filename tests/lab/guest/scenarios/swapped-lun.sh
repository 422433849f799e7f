# lab: time=120 load=waits long=backports
# what: behind a known portal another LUN appears during an outage: refused with a sentence, never written to
. /host/lib.sh
net_up
target_up groups=each
attached
T2=$C/iscsi/$IQN/tpgt_2
verify_fill "$DEV" 16M
link_cut 6
within 15 paths_up 1
# A stranger of the same size takes the LUN's place behind portal 6.
backstore_up other
dd if=/dev/urandom of="$STORE/other.img" bs=1M count=16 conv=notrunc 2>/dev/null
before=$(sha256sum <"$STORE/other.img")
echo 0 >"$T2/enable"
lun_unmap "$T2" 0
lun_map "$T2" 0 other
echo 1 >"$T2/enable"
verify_start "$DEV" 15
link_give 6
sleep 8
paths_up 1 || fail "the stranger became a path"
sanblk status
path_field 6 .reason | grep -qiE 'another|different|identity|wwid|serial' || fail "no reason names the other LUN: $(path_field 6 .reason)"
verify_done
same "$before" "$(sha256sum <"$STORE/other.img")" "content of the stranger"
say "the right LUN comes back"
echo 0 >"$T2/enable"
lun_unmap "$T2" 0
lun_map "$T2" 0 disk0
echo 1 >"$T2/enable"
expect sanblk attach --portal "$P5" --portal "$P6"
within 30 paths_up 2
detach
