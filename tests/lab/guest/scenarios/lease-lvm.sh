# lab: time=600 kernel=stable load=waits
# what: a lockspace on a logical volume, its volume group on two volumes: extended in pieces, both gates shut and opened with the leases, vgextend and vgreduce followed, what sanblk does not carry refused
. /host/lib.sh
. /host/leases.sh
# As the area is made: a host that joins waits 20 s, and a gate shuts 80 s after the last renewal.
T=10
modprobe loop
net_up
target_up luns=2 size=512M
attached --lun 0
DEV0=$DEV
attached --lun 1
DEV1=$DEV
truncate -s 64M /dev/shm/other
OTHER=$(losetup --find --show /dev/shm/other)

LV=/dev/mapper/vg0-lvmlock
LS=$LV:0 RA=$LV:$MIB VGLK=$LV:$((2 * MIB))
our() { sanblk lease status --json | jq -r ".lockspaces[0].$1"; }
we_are() { [ "$(our state)" = "$1" ]; }
gate_of() { sanblk status --json | jq -r ".volumes[] | select(.device == \"$1\") | .gate.state"; }
left_of() { sanblk status --json | jq -r ".volumes[] | select(.device == \"$1\") | .gate.open_ms"; }
gates_are() { [ "$(gate_of "$DEV0") $(gate_of "$DEV1")" = "$1" ]; }
guards() { same "$1" "$(our 'guards | join(" ")')" "volumes whose writes depend on it"; }
# The lock of the volume group around a command of LVM, as lvmlockd has it.
locked() {
    expect sanblk lease acquire "$VGLK" --mode exclusive
    expect "$@"
    expect sanblk lease release "$VGLK"
}
all_up() {
    for DEV in "$DEV0" "$DEV1"; do within 30 paths_up 2; done
}
pv_uuid() { pvs --noheadings -o pv_uuid "$1" | tr -d ' '; }

say "== a volume group on both, leases on a logical volume of it"
expect vgcreate -y vg0 "$DEV0" "$DEV1"
expect lvcreate -y -Wn -L 16M -n lvmlock vg0 "$DEV0"
expect lvcreate -y -Wn -L 16M -n behind vg0 "$DEV0"
expect lvcreate -y -Wn -L 64M -n data vg0 "$DEV1"
expect sanblk lease init lockspace --name lvm_vg0 "$LS"
expect sanblk lease init resource --lockspace lvm_vg0 --name RA "$RA"
expect sanblk lease init resource --lockspace lvm_vg0 --name VGLK "$VGLK"
we_join
guards "$DEV0 $DEV1"
same vg0 "$(our volume_group)" "its volume group"
gates_are "open open" || fail "a gate is not open"
expect sanblk lease acquire "$RA" --mode exclusive
sanblk lease status
same 0 "$(dmsetup info -c --noheadings -o open vg0-lvmlock)" "who has the logical volume open"
refused $REFUSED sanblk detach "$DEV1"
says "its writes depend on lockspace lvm_vg0"

say "== extended in a second piece"
FAR=$LV:$((17 * MIB))
refused $NOT_FOUND sanblk lease acquire "$FAR" --mode exclusive
locked lvextend -y -L 32M vg0/lvmlock "$DEV0"
same 2 "$(dmsetup table vg0-lvmlock | wc -l)" "pieces of the logical volume"
expect sanblk lease init resource --lockspace lvm_vg0 --name far "$FAR"
expect sanblk lease acquire "$FAR" --mode exclusive
sanblk lease dump "$FAR" | head -3

say "== both VLANs are cut: both gates shut, and open again"
link_cut 5
link_cut 6
within 100 gates_are "shut shut"
link_give 5
link_give 6
within 120 we_are joined
within 20 gates_are "open open"
all_up
expect sanblk lease release "$FAR"

say "== vgreduce and vgextend are followed before the lock is let go"
expect lvremove -y vg0/data
locked vgreduce vg0 "$DEV1"
guards "$DEV0"
gates_are "open null" || fail "the gate of $DEV1 is not free"
locked vgextend -y vg0 "$DEV1"
guards "$DEV0 $DEV1"
gates_are "open open" || fail "the gate of $DEV1 is not armed"
# Two renewals later it is open for longer than what it was armed with.
sleep 45
[ "$(left_of "$DEV1")" -gt 40000 ] || fail "the gate of $DEV1 is not kept open: $(left_of "$DEV1") ms are left"

say "== a physical volume that sanblk does not carry"
expect sanblk lease release "$RA"
locked vgextend -y vg0 "$OTHER"
guards "$DEV0 $DEV1"
our unguarded | grep "$(pv_uuid "$OTHER")" || fail "status does not name it: $(our unguarded)"
sanblk lease status | grep 'NOT GUARDED' || fail "status does not say it"
refused $REFUSED sanblk lease acquire "$RA" --mode exclusive
says "on no volume of sanblk"
locked vgreduce vg0 "$OTHER"
same null "$(our unguarded)" "what is not guarded"
expect sanblk lease acquire "$RA" --mode exclusive
expect sanblk lease release "$RA"
expect sanblk lease leave "$LS"
gates_are "null null" || fail "a gate is not free"

say "== refused from the start"
expect vgextend -y vg0 "$OTHER"
refused $REFUSED sanblk lease join "$LS" --host-id 2 --host-name south --io-timeout $T
says "volume group vg0: its physical volume .*, last seen as $OTHER, is on no volume of sanblk"
expect vgreduce vg0 "$OTHER"
expect lvextend -y -L +16M vg0/lvmlock "$DEV1"
refused $REFUSED sanblk lease join "$LS" --host-id 2 --host-name south --io-timeout $T
says "lies on two volumes"
gates_are "null null" || fail "a refused join left a gate"
expect vgchange -an vg0
losetup -d "$OTHER"
rm -f /dev/shm/other
for DEV in "$DEV0" "$DEV1"; do detach; done
target_down
