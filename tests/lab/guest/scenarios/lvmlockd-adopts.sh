# lab: boot=own time=200 load=waits kernel=stable long=yes
# what: lvmlockd is killed; what it held is an orphan, still held, and refused to who does not ask for it, until LVM adopts it under the next lvmlockd
. /host/lib.sh
. /host/lvmlockd.sh
machine_id 1
modprobe -a loop dm-mod
truncate -s 2G /dev/shm/pv
PV=$(losetup --find --show /dev/shm/pv)
sanblk daemon --sanlock-socket >/tmp/sanblk.log 2>&1 &
within 60 test -S /run/sanlock/sanlock.sock
lvm_up 1 "/dev/loop[0-9]+"
expect vgcreate --shared vg0 "$PV"
lvmlockctl --info | grep -q 'lock_type=sanlock' || expect vgchange --lock-start vg0
expect lvcreate -an -L 64M -n lv0 vg0
LV0=$(lv_lease vg0/lv0)
expect lvchange -aey vg0/lv0
expect leased "$LV0" exclusive
orphans() { [ "$(sanlock client status | grep -c ORPHAN)" = "$1" ]; }

say "== lvmlockd dies"
kill -9 "$LVMLOCKD"
within 20 orphans 1
expect leased "$LV0" exclusive

say "== under the next one, LVM adopts the lockspace and what was held"
# Not --adopt 1: lvmlockd 2.03.31 then waits for an answer that it gave to nobody, whoever the lock manager is.
lvmlockd_up
expect vgchange --lock-start --lockopt adopt vg0
refute lvchange -aey vg0/lv0
says "orphan lock needs to be adopted"
expect lvchange -aey --lockopt adopt vg0/lv0
expect orphans 0
expect leased "$LV0" exclusive
lvmlockctl --info | grep 'LK LV ex' || fail "lvmlockd does not have the lock"
expect lvchange -an vg0/lv0
expect not_leased "$LV0"
expect vgchange --lock-stop vg0
