# lab: time=120 long=backports
# what: the lab's own ground: LIO on two VLANs, open-iscsi + dm-multipath on it, verified IO over a cut link
. /host/lib.sh
net_up
target_up
kernel_stack_up tuned
multipath -ll
say "WWID $(wwid_of_multipath)"
same "$(wwid_of_multipath)" "$(/usr/lib/udev/scsi_id -g -u /dev/sda)" "multipath's WWID and scsi_id's"
verify_fill /dev/mapper/mpatha 32M
verify_again /dev/mapper/mpatha 32M
verify_start /dev/mapper/mpatha 14
sleep 2
link_cut 5
within 12 mpath_paths_are 1
link_give 5
within 30 mpath_paths_are 2
verify_done
