# lab: time=90
# what: discover, attach, status, set, attach again, a portal that is silent, a portal added later, detach
. /host/lib.sh
net_up
target_up

say "discovery lists both portals and the disk"
sanblk discover --portal "$P5" | tee /tmp/found
for p in "$P5" "$P6" "$IQN"; do expect grep -q "$p" /tmp/found; done
same "$IQN" "$(sanblk discover --portal "$P5" --json | jq -r '.portals[0].targets[0].name')" "target in the JSON"

say "attach prints the device, the WWID and the paths; one TCP session per VLAN"
attached
expect grep -Eq "36001405[0-9a-f]{25}" <<E
$_attach_out
E
for v in 5 6; do
    same 1 "$(ss -Htn state established dst "10.20.$v.254:3260" | wc -l)" "connections on VLAN $v"
done
same $((1024 * 1024 * 2)) "$(attr size)" "512-byte sectors of the device"
same 0 "$(attr ro)" "read-only flag"
sanblk status
expect sh -c "sanblk status | grep -q $DEV"
same up "$(field .health)" "health"
same late-binding "$(field .policy)" "policy"
same "san5 san6" "$(field '[.paths[].interface] | join(" ")')" "interfaces the paths are bound to"

say "attach again prints the same device and adds nothing"
first=$DEV
attach
same "$first" "$DEV" "device of the second attach"
same 1 "$(ls /dev/ublkb* | wc -l)" "block devices"

say "names that survive reboots"
wwid=$(field .wwid)
within 5 test -e "/dev/disk/by-id/wwn-0x${wwid#3}"
same "$DEV" "$(readlink -f "/dev/disk/by-id/wwn-0x${wwid#3}")" "device behind the by-id link"

say "settings change live"
expect sanblk set "$DEV" --no-path-retry 30
same 30 "$(field .no_path_retry)" "no_path_retry"
refute sanblk set "$DEV" --no-path-retry sometimes
for policy in round-robin failover queue-length service-time late-binding; do
    expect sanblk set "$DEV" --policy $policy
    same $policy "$(field .policy)" "policy"
    verify_fill "$DEV" 4M
done

say "detach ends in bounded time; the rest is empty"
detach
expect sanblk status
refused $NOT_FOUND sanblk detach "$DEV"
within 5 not sh -c "ss -Htn state established dport = :3260 | grep -q ."

say "a silent portal is a status, not a delay"
link_drop 6 both
start=$(ms)
attach
[ $(($(ms) - start)) -lt 8000 ] || fail "attach took $(($(ms) - start)) ms with one silent portal"
paths_up 1 || fail "expected one path up"
same degraded "$(field .health)" "health"
verify_fill "$DEV" 4M
link_pass 6
within 30 paths_up 2
detach

say "a portal added by a second attach"
expect sanblk attach --portal "$P5"
DEV=$(first_device)
within 5 paths_up 1
expect sanblk attach --portal "$P6"
within 10 paths_up 2
detach

say "nobody answers"
refused $UNREACHABLE sanblk attach --portal 10.20.5.99
says 10.20.5.99
