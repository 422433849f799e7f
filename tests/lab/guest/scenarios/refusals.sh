# lab: time=120 long=backports
# what: what attach must refuse, by exit code and with the remedy: held by open-iscsi, several LUNs or targets, kernel without ublk or io_uring
. /host/lib.sh
net_up
target_up

say "== the LUN is open-iscsi's already"
kernel_stack_up
refused $REFUSED sanblk attach --portal "$P5" --portal "$P6"
says 'sd[ab]|mpath'
says 'iscsiadm'
expect test ! -e /dev/ublkb0
kernel_stack_down

say "== no ublk driver"
modprobe -r ublk_drv
echo 'install ublk_drv /bin/false' >/etc/modprobe.d/lab.conf
refused $KERNEL sanblk attach --portal "$P5"
says 'ublk_drv|CONFIG_BLK_DEV_UBLK'
rm /etc/modprobe.d/lab.conf

say "== io_uring switched off"
echo 2 >/proc/sys/kernel/io_uring_disabled
refused $KERNEL sanblk attach --portal "$P5"
says io_uring
echo 0 >/proc/sys/kernel/io_uring_disabled

say "== not root"
cp /usr/local/bin/sanblk /tmp/sanblk-copy
chmod 755 /tmp/sanblk-copy
refute setpriv --reuid 65534 --regid 65534 --clear-groups /tmp/sanblk-copy attach --portal "$P5"
says root

say "== wrong words"
refute sanblk attach
refute sanblk attach --portal 10.20.5.254:99999
refute sanblk detach /dev/null
target_down

say "== several LUNs: listed, and --lun chooses"
target_up luns=3 size=64M disk=multi
refused $AMBIGUOUS sanblk attach --portal "$P5" --portal "$P6"
says '--lun'
attached --lun 1
detach

say "== several targets: listed, and --target chooses"
target_up name=store2 disk=second size=64M
refused $AMBIGUOUS sanblk attach --portal "$P5" --portal "$P6"
says '--target'
says store2
attached --target iqn.2026-01.lab.sanblk:store2
detach
refused $NOT_FOUND sanblk attach --portal "$P5" --target iqn.2026-01.lab.sanblk:nobody
