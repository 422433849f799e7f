# lab: time=20
# what: the guest boots, has both cores' worth of tools, and reports a status
. /host/lib.sh
uname -a
for tool in fio lvm iscsiadm multipath mkfs.xfs mkfs.ext4 sg_inq iscsi-ls nft jq; do
    expect command -v "$tool"
done
expect modprobe ublk_drv
expect test -c /dev/ublk-control
