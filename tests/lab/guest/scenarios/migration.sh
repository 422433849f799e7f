# lab: time=180
# what: sanblk to open-iscsi + multipath on the same LUN, same volume group, same checksums, and back
. /host/lib.sh
net_up
target_up
sums() { # MAPPED-BY: activates, compares, writes a file of its own, deactivates
    within 10 vgs vg0
    expect vgchange -ay vg0
    mkdir -p /mnt/m
    expect mount /dev/vg0/data /mnt/m
    if [ -f /tmp/sums ]; then (cd /mnt/m && expect sha256sum --quiet -c /tmp/sums) || exit 1; fi
    expect dd if=/dev/urandom of=/mnt/m/"$1" bs=1M count=24 conv=fsync
    (cd /mnt/m && sha256sum -- * >/tmp/sums)
    umount /mnt/m
    expect vgchange -an vg0
    udevadm settle
}
attached
wwid=$(field .wwid)
expect pvcreate -y "$DEV"
expect vgcreate vg0 "$DEV"
expect lvcreate -y -Wn -L 300M -n data vg0
expect mkfs.xfs -q /dev/vg0/data
sums on-sanblk
detach

say "== the kernel's stack"
kernel_stack_up
same "$wwid" "$(wwid_of_multipath)" "WWID"
pvs -o pv_name,vg_name
sums on-multipath
kernel_stack_down

say "== and back"
attached
sums on-sanblk-again
same 3 "$(wc -l </tmp/sums)" "files"
detach
