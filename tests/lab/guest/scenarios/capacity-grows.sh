# lab: time=150 load=waits
# what: a LUN that grows while it is used: the disk follows where the kernel's ublk can, else status says what to do
. /host/lib.sh
net_up
# iblock: the array's disk is the loop device, whose size LIO reads at every READ CAPACITY.
target_up backstore=iblock size=512M
attached
MIB=1048576
same $((512 * MIB)) "$(blockdev --getsize64 "$DEV")" "bytes"
verify_fill "$DEV" 32M
verify_start "$DEV" 30 --size=256M --rate_iops=200
io_runs 20

grow() {
    truncate -s "$1M" "$STORE/disk0.img"
    loop=$(losetup -j "$STORE/disk0.img" -O NAME -n)
    expect losetup --set-capacity "$loop"
}
grow 768
# UPDATE_SIZE came with Linux 6.16.
if printf '6.16\n%s\n' "$(uname -r)" | sort -VC; then
    disk_is() { [ "$(blockdev --getsize64 "$DEV")" = "$1" ]; }
    # LIO tells nobody: it is found by asking once a minute.
    within 75 disk_is $((768 * MIB))
    same $((768 * MIB)) "$(field .size_bytes)" "size_bytes in status"
    expect dd if=/dev/urandom of=/tmp/end bs=1M count=4 status=none
    expect dd if=/tmp/end of="$DEV" bs=1M seek=764 oflag=direct status=none
    expect cmp -n $((4 * MIB)) -i $((764 * MIB)):0 "$STORE/disk0.img" /tmp/end
else
    says_attach_again() { field '.notes[]' | grep -q 'has grown to 768 MiB.*attach again'; }
    within 75 says_attach_again
    same $((512 * MIB)) "$(field .size_bytes)" "size_bytes in status"
fi
verify_done
detach
attached
same $((768 * MIB)) "$(blockdev --getsize64 "$DEV")" "bytes after another attach"

say "== the LUN shrinks: the disk does not, and what is gone fails"
grow 640
shrunk() { field '.notes[]' | grep -q 'reports only 640 MiB'; }
refute dd if="$DEV" of=/dev/null bs=1M skip=700 count=1 iflag=direct
within 75 shrunk
same $((768 * MIB)) "$(blockdev --getsize64 "$DEV")" "bytes of the disk"
expect dd if="$DEV" of=/dev/null bs=1M skip=600 count=1 iflag=direct
within 5 paths_up 2
same 0 "$(field '[.paths[].losses] | add')" "paths lost"
detach
