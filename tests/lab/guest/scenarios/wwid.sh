# lab: time=150 long=backports
# what: the WWID equals what multipath-tools and scsi_id print for the same LUN: LIO file and block, and tgt
. /host/lib.sh
net_up
compare() { # LABEL [ATTACH FLAGS]
    label=$1
    shift
    attached "$@"
    ours=$(field .wwid)
    detach
    kernel_stack_up
    theirs=$(wwid_of_multipath)
    scsi_id=$(/usr/lib/udev/scsi_id -g -u "$(ls /dev/sd? | head -1)")
    kernel_stack_down
    say "$label: $ours"
    same "$theirs" "$ours" "$label: WWID of multipath-tools and of sanblk"
    same "$scsi_id" "$ours" "$label: WWID of scsi_id and of sanblk"
}
target_up disk=alpha
compare "LIO fileio"
target_down
target_up backstore=iblock block=4096 disk=beta
compare "LIO iblock"
target_down
ip netns exec tgt tgtd
within 5 tgtadm --lld iscsi --op show --mode sys
truncate -s 64M /dev/shm/tgt.img
expect tgtadm --lld iscsi --op new --mode target --tid 1 -T "$IQN"
expect tgtadm --lld iscsi --op new --mode logicalunit --tid 1 --lun 1 -b /dev/shm/tgt.img
expect tgtadm --lld iscsi --op bind --mode target --tid 1 -I ALL
compare "tgt"
pkill tgtd
rm -f /dev/shm/tgt.img
