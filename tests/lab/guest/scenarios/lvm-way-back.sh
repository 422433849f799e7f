# lab: boot=own time=300 load=waits kernel=stable long=yes
# what: another host took an LV while the storage was away: every write fails; the commands that status prints bring the host back without a reboot
. /host/lib.sh
. /host/leases.sh
. /host/lvmlockd.sh
machine_id 2
T=2
modprobe -a loop dm-mod
# The other host, with a sanlock of its own, is in the array: it reaches the medium when the VLANs are cut.
truncate -s 2G /dev/shm/medium
LOOP=$(losetup --find --show /dev/shm/medium)
net_up
target_up backstore=iblock device="$LOOP"
sanblk daemon --sanlock-socket >/tmp/sanblk.log 2>&1 &
within 60 test -S /run/sanlock/sanlock.sock
attached
lvm_up 2 "/dev/ublkb[0-9]+" --sanlock-timeout $T
expect vgcreate --shared vg0 "$DEV"
expect lvcreate -an -L 64M -n lv0 vg0
expect lvchange -aey vg0/lv0
LV0=$(lv_lease vg0/lv0)

_pe=$(lvs -a --noheadings -o seg_pe_ranges vg0/lvmlock | sed 's/.*:\([0-9]*\)-.*/\1/')
_start=$(pvs --noheadings --nosuffix --units b -o pe_start "$DEV" | tr -d ' ')
_extent=$(vgs --noheadings --nosuffix --units b -o vg_extent_size vg0 | tr -d ' ')
LVMLOCK=$((_start + _pe * _extent))
LEASE=$(sanblk lease status --json | jq -r ".lockspaces[0].leases[] | select(.name == \"$LV0\") | .offset_bytes")
THEIRS="env SANLOCK_RUN_DIR=/run/theirs sanlock client"
(SANLOCK_RUN_DIR=/run/theirs && export SANLOCK_RUN_DIR && sanlock_up) || fail "the other host's sanlock"
expect $THEIRS add_lockspace -s "lvm_vg0:1:$LOOP:$LVMLOCK" -o $T

say "== the storage is away; the other host waits until this one is dead, and takes the LV"
(while dd if=/dev/zero of=/dev/vg0/lv0 bs=4k count=1 oflag=direct 2>/tmp/dd.out; do sleep 0.2; done) &
WRITER=$!
link_cut 5
link_cut 6
HOLDER=4194305
they_have_it() { $THEIRS status | grep -q "^r lvm_vg0:$LV0:.* p $HOLDER\$"; }
they_take_it() {
    they_have_it && return
    kill -0 "$HOLDER" 2>/dev/null || {
        $THEIRS command -r "lvm_vg0:$LV0:$LOOP:$((LVMLOCK + LEASE))" -c /bin/sleep 10000 >/tmp/holder.log 2>&1 &
        HOLDER=$!
    }
    return 1
}
within 120 they_take_it
link_give 5
link_give 6
gate_is() { [ "$(field .gate.state)" = "$1" ]; }
within 60 gate_is refused
wait $WRITER
cat /tmp/dd.out

say "== the way back, as it is printed"
sanblk status
field '.gate.way_back[]' >/tmp/way-back
[ -s /tmp/way-back ] || fail "no way back is told"
while read -r _command; do
    udevadm settle
    # shellcheck disable=SC2086
    expect $_command </dev/null
done </tmp/way-back
DEV=$(first_device)
within 10 paths_up 2
refused 5 lvchange -aey vg0/lv0
says 'LV locked by other host: vg0/'
kill "$HOLDER"
within 20 lvchange -aey vg0/lv0
expect dd if=/dev/zero of=/dev/vg0/lv0 bs=4k count=1 oflag=direct
expect lvchange -an vg0/lv0
expect vgchange --lock-stop vg0
