# lab: boot=own time=400 load=waits kernel=stable
# what: unmodified LVM and lvmlockd with sanblk for a lock manager: a shared volume group made, started, its volumes made, activated, extended, removed; stopped, removed
. /host/lib.sh
. /host/lvmlockd.sh
machine_id 1
modprobe -a loop dm-mod
truncate -s 2G /dev/shm/pv
PV=$(losetup --find --show /dev/shm/pv)
sanblk daemon --sanlock-socket >/tmp/sanblk.log 2>&1 &
within 60 test -S /run/sanlock/sanlock.sock
lvm_up 1 "/dev/(loop|ublkb)[0-9]+"

story() { # PV
    say "== a volume group is made, and its lock space started"
    timed "vgcreate --shared" vgcreate --shared vg0 "$1"
    same sanlock "$(vgs --noheadings -o lock_type vg0 2>/dev/null | tr -d ' ')" "lock type"
    lvmlockctl --info | grep -q 'lock_type=sanlock' || expect vgchange --lock-start vg0
    sanblk lease status
    sanlock client status

    say "== a volume: exclusive, extended, deactivated, shared"
    timed "lvcreate" lvcreate -an -L 64M -n lv0 vg0
    LV0=$(lv_lease vg0/lv0)
    not_leased "$LV0" || fail "$LV0 is held before anybody asked"
    timed "lvchange -aey" lvchange -aey vg0/lv0
    expect leased "$LV0" exclusive
    expect dd if=/dev/urandom of=/dev/vg0/lv0 bs=1M count=8 oflag=direct
    timed "lvextend" lvextend -L +64M vg0/lv0
    timed "lvchange -an" lvchange -an vg0/lv0
    expect not_leased "$LV0"
    timed "lvchange -asy" lvchange -asy vg0/lv0
    expect leased "$LV0" shared
    expect lvchange -an vg0/lv0
    expect not_leased "$LV0"

    say "== stopped and started again; the volume removed, the group removed"
    timed "lock-stop" vgchange --lock-stop vg0
    same 0 "$(sanblk lease status --json | jq '.lockspaces | length')" "lockspaces after lock-stop"
    timed "lock-start" vgchange --lock-start vg0
    timed "lvremove" lvremove -y vg0/lv0
    timed "vgremove" timeout 60 vgremove -y vg0
    same 0 "$(sanblk lease status --json | jq '.lockspaces | length')" "lockspaces after vgremove"
    ! vgs vg0 >/dev/null 2>&1 || fail "vg0 is still there"
}

say "on a device that sanblk does not carry: lvm $(lvm version | awk '/LVM/ { print $3 }')"
story "$PV"

say "on a volume of sanblk"
net_up
target_up size=2G
attached
story "$DEV"
detach
