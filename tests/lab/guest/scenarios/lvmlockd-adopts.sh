# lab: boot=own time=200 load=waits kernel=stable long=yes
# what: lvmlockd is killed; what it held is an orphan, still held, until the next lvmlockd adopts it
. /host/lib.sh
. /host/lvmlockd.sh
machine_id 1
modprobe -a loop dm-mod
truncate -s 2G /dev/shm/pv
PV=$(losetup --find --show /dev/shm/pv)
sanblk daemon --sanlock-socket >/tmp/sanblk.log 2>&1 &
within 60 test -S /run/sanlock/sanlock.sock
lvm_up 1 "/dev/loop[0-9]+"
timed "vgcreate --shared" vgcreate --shared vg0 "$PV"
lvmlockctl --info | grep -q 'lock_type=sanlock' || expect vgchange --lock-start vg0
expect lvcreate -an -L 64M -n lv0 vg0
LV0=$(lv_lease vg0/lv0)
expect lvchange -aey vg0/lv0
expect leased "$LV0" exclusive

say "== lvmlockd dies"
kill -9 "$LVMLOCKD"
within 10 sh -c 'sanlock client status | grep -q ORPHAN'
expect leased "$LV0" exclusive

say "== and the next one adopts what it held"
lvmlockd_up
within 30 sh -c 'timeout 5 lvmlockctl --info | grep -q "LK LV ex"'
sanlock client status | tee /tmp/status
! grep -q ORPHAN /tmp/status || fail "orphans are left"
expect lvchange -an vg0/lv0
expect not_leased "$LV0"
