# lab: time=240 long=yes
# what: the lab's own ground: each option of target_up and each fault does what it says (sg3-utils, libiscsi)
. /host/lib.sh
U=iscsi://$P5/$IQN
net_up

# One LUN, identity, both portals.
target_up
expect iscsi-ls -s "iscsi://$P6"
iscsi-ls -s "iscsi://$P5"
expect iscsi-inq "$U/0"
iscsi-inq -e 1 -c 131 "$U/0" | grep -i naa
iscsi-readcapacity16 "$U/0"
same 2097152 "$(iscsi-readcapacity16 -s "$U/0" | awk '{ print $1 / 512 }')" "blocks of a 1 GiB LUN"
iscsi-inq -e 1 -c 178 "$U/0" | head -12
target_down

# 4096-byte blocks, more LUNs, no write cache, not thin.
target_up block=4096 luns=2 cache=off thin=off disk=big
iscsi-readcapacity16 "$U/1"
expect sh -c "iscsi-readcapacity16 $U/1 | grep -E 'LOGICAL BLOCK LENGTH.*4096|Block.*4096|4096'"
iscsi-inq -e 1 -c 178 "$U/0" | grep -iE 'lbp|anc|thin|unmap' | head
for n in 0 1; do expect sh -c "iscsi-inq -e 1 -c 128 $U/$n | grep -i serial"; done
refute iscsi-inq "$U/2"
target_down

# Backed by a block device, 4096 and 512; beyond 2 TiB; read-only.
target_up backstore=iblock block=4096 disk=blk
expect sh -c "iscsi-readcapacity16 $U/0 | grep 4096"
target_down
target_up backstore=iblock block=512 size=3T disk=huge ro=on
iscsi-readcapacity16 "$U/0"
modprobe iscsi_tcp
initiator_name
mkdir -p /run/lock/iscsi
iscsid -p /run/iscsid.pid
expect iscsiadm -m discovery -t sendtargets -p "$P5"
expect iscsiadm -m node -p "$P5" --login
within 10 test -b /dev/sda
same 1 "$(cat /sys/block/sda/ro)" "read-only flag"
same $((3 * 1024 * 1024 * 1024 * 2)) "$(cat /sys/block/sda/size)" "sectors of 3 TiB"
kernel_stack_down
target_down

# CHAP, one way and mutual.
target_up chap=host:secret-of-host1 mutual=array:secret-of-array
refute iscsi-inq "$U/0"
expect iscsi-inq "iscsi://host%secret-of-host1@$P5/$IQN/0"
refute iscsi-inq "iscsi://host%wrong-secret-12@$P5/$IQN/0"
target_down

# Two targets; two portal groups.
target_up name=store1 disk=one portals=5
target_up name=store2 disk=two portals=6
iscsi-ls "iscsi://$P5"
iscsi-ls "iscsi://$P6"
target_down
target_up groups=each
iscsi-ls "iscsi://$P5" | tee /tmp/groups
expect grep -q "$P6:3260,2" /tmp/groups
target_down

# Faults, seen by a session of the kernel's initiator.
target_up
kernel_stack_up tuned
DEV=/dev/mapper/mpatha
conns() { ss -Htn state established '( dport = :3260 )' | wc -l; }
ports() { ss -Htn state established '( dport = :3260 )' | awk '{ print $3 }' | sort | tr '\n' ' '; }
before=$(ports)
verify_start $DEV 200 --rate=2m
rst_once 5
moved() { [ "$(conns)" = 2 ] && [ "$(ports)" != "$before" ]; }
within 10 moved
say "before: $before, after: $(ports)"
for how in out in both; do
    link_drop 6 $how
    within 15 mpath_paths_are 1
    link_pass 6
    within 20 mpath_paths_are 2
done
link_reset 5
within 15 mpath_paths_are 1
link_pass 5
within 20 mpath_paths_are 2
portal_del 6
sleep 1
say "connections with the portal gone: $(conns)"
portal_add 6
within 20 mpath_paths_are 2
kill "$VERIFY"
wait "$VERIFY"
target_stop
within 15 mpath_paths_are 0
target_start
within 20 mpath_paths_are 2
expect dd if=$DEV of=/dev/null bs=1M count=8 iflag=direct
