# lab: time=120 long=backports
# what: a volume group on the device, ext4 and xfs on it, checksums the same after detach and attach
. /host/lib.sh
net_up
target_up
attached
expect pvcreate -y "$DEV"
expect vgcreate vg0 "$DEV"
expect lvcreate -y -Wn -L 300M -n e vg0
expect lvcreate -y -Wn -L 400M -n x vg0
expect mkfs.ext4 -q /dev/vg0/e
expect mkfs.xfs -q /dev/vg0/x
mkdir -p /mnt/e /mnt/x
expect mount /dev/vg0/e /mnt/e
expect mount /dev/vg0/x /mnt/x
for m in /mnt/e /mnt/x; do
    expect dd if=/dev/urandom of=$m/data bs=1M count=48 conv=fsync
    cp -r /usr/share/misc /etc $m/
    (cd $m && find . -type f -exec sha256sum {} + >/tmp/sums"${m#/mnt/}")
done
sync
say "snapshot, extend, discard"
expect lvextend -r -L +64M vg0/e
expect fstrim /mnt/e
expect fstrim /mnt/x
say "refuses to go away under a volume group in use"
refused $REFUSED sanblk detach "$DEV"
umount /mnt/e /mnt/x
expect vgchange -an vg0
detach
attached
within 10 vgs vg0
expect vgchange -ay vg0
expect mount /dev/vg0/e /mnt/e
expect mount /dev/vg0/x /mnt/x
(cd /mnt/e && expect sha256sum --quiet -c /tmp/sumse) || exit 1
(cd /mnt/x && expect sha256sum --quiet -c /tmp/sumsx) || exit 1
umount /mnt/e /mnt/x
expect e2fsck -fn /dev/vg0/e
expect xfs_repair -n /dev/vg0/x
expect vgchange -an vg0
detach
