# lab: boot=own time=110
# what: one LUN over two VLANs as one block device, LVM and ext4 on it, a pulled link under verified IO
. /host/lib.sh

# run COMMAND: shows the command as a person would type it, then what it prints; a failure ends the story.
run() {
    echo "\$ $*"
    # A story has no hidden status: the command runs in the same shell, its output is shown as it comes.
    eval "$*" || { context; fail "the story stops at: $*"; }
}
tell() {
    echo
    echo "# $*"
}

tell "An array: Linux LIO with one thin 2 GiB LUN behind two portals, each on a storage VLAN of its own."
net_up
target_up size=2G disk=lun
initiator_name
run "ip -br addr show type veth"

tell "What does it offer?"
run "sanblk discover --portal $P5"

tell "Attach it: one session per VLAN, one block device."
run "sanblk attach --portal $P5 --portal $P6"
DEV=$(first_device)
within 10 paths_up 2
udevadm settle
run "sanblk status"
run "lsblk -o NAME,SIZE,TYPE,RO,LOG-SEC,DISC-MAX $DEV"

tell "An ordinary disk: LVM and ext4 on it, a file with a checksum."
run "pvcreate -q $DEV"
run "vgcreate -q vg0 $DEV"
run "lvcreate -q -L 400M -n files vg0"
run "lvcreate -q -L 300M -n load vg0"
run "mkfs.ext4 -q /dev/vg0/files"
run "mkdir -p /mnt/files && mount /dev/vg0/files /mnt/files"
run "dd if=/dev/urandom of=/mnt/files/data bs=1M count=64 conv=fsync status=none"
run "sha256sum /mnt/files/data | tee /tmp/sum"

tell "Random writes, read back and compared, while a cable is pulled."
echo "\$ fio --rw=randwrite --bs=4k --iodepth=16 --verify=crc32c --filename=/dev/vg0/load ... &"
verify_start /dev/vg0/load 22
sleep 3
run "ip -n tgt link set tsan5 down          # the cable of VLAN 5"
within 15 paths_up 1
sleep 2
run "sanblk status"
run "ip -n tgt link set tsan5 up"
within 30 paths_up 2
run "sanblk status"
verify_done

tell "The file is what it was; good bye."
run "echo 3 > /proc/sys/vm/drop_caches"
run "sha256sum -c /tmp/sum"
run "umount /mnt/files"
run "vgchange -q -an vg0"
run "sanblk detach $DEV"
run "sanblk status"
