# Functions for the lab's scenarios, POSIX sh. Each is a few commands that a person can paste on a machine.
#
#   san5, san6           the host's interfaces on two storage VLANs, 10.20.5.1/24 and 10.20.6.1/24
#   netns "tgt"          the storage array: a LIO target on 10.20.5.254:3260 and 10.20.6.254:3260
#
# Every scenario starts clean (see reset at the end) and calls what it needs: net_up, target_up, ...

IQN=iqn.2026-01.lab.sanblk:store1
C=/sys/kernel/config/target
P5=10.20.5.254
P6=10.20.6.254
# Backing files of the array: sparse, in memory.
STORE=/dev/shm/store
OUT=/host/out

# --- telling and judging ------------------------------------------------------------------------------------

say() { echo "-- $*"; }

# Ends the scenario. The line that starts with FAIL: is the reason shown in the summary.
fail() {
    echo "FAIL: $*"
    exit 1
}

# expect COMMAND...: the command must succeed; else its output, the state around it, and the end.
expect() {
    if _expect_out=$("$@" 2>&1); then return 0; else _expect_rc=$?; fi
    echo "$_expect_out" | tail -40
    context
    fail "expected success (status $_expect_rc): $*"
}

# refute COMMAND...: the command must refuse (fail with a status of its own; not die, not be missing).
# What it said is left in $SAID for says, its status in $CODE.
refute() {
    CODE=0
    SAID=$("$@" 2>&1) || CODE=$?
    if [ "$CODE" = 0 ] || [ "$CODE" -ge 124 ]; then
        echo "$SAID"
        context
        fail "expected a refusal, got status $CODE: $*"
    fi
    echo "$SAID" | sed 's/^/   refused: /'
}

# refused CODE COMMAND...: the command must refuse with this exit code.
refused() {
    _refused_code=$1
    shift
    refute "$@"
    same "$_refused_code" "$CODE" "exit code of: $*"
}

# says REGEX: what the last refute printed must contain it.
says() { echo "$SAID" | grep -qiE -- "$1" || fail "the refusal does not say /$1/: $SAID"; }

# same WANTED GOT WHAT
same() { [ "$1" = "$2" ] || { context; fail "$3: expected '$1', got '$2'"; }; }

# Milliseconds since boot.
ms() { awk '{ printf "%d", $1 * 1000 }' /proc/uptime; }

# waitfor SECONDS COMMAND...: the command succeeds before the time is over (tried ten times a second)?
waitfor() {
    _wait_end=$(($(ms) + $1 * 1000 * ${PATIENCE:-1}))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(ms)" -lt "$_wait_end" ] || return 1
        sleep 0.1
    done
}

# within SECONDS COMMAND...: like waitfor, but the scenario ends when the time is over.
within() {
    waitfor "$@" && return
    _within_s=$1
    shift
    "$@" 2>&1 | tail -5
    context
    fail "not within $_within_s s: $*"
}

# not COMMAND...: for use with within and expect.
not() { ! "$@"; }

# What a reader of a failed assertion wants to see.
context() {
    echo "-- context"
    ip -br link show type veth 2>/dev/null
    ip -n tgt -br link show type veth 2>/dev/null
    ip netns exec tgt ss -Htan '( sport = :3260 )' 2>/dev/null | head -8
    [ ! -d /run/sanblk ] || timeout 5 sanblk status 2>&1
    dmesg | tail -12
}

# --- network ------------------------------------------------------------------------------------------------

net_up() {
    ip netns add tgt
    ip -n tgt link set lo up
    for v in 5 6; do
        ip link add "san$v" type veth peer name "tsan$v" netns tgt
        ip addr add "10.20.$v.1/24" dev "san$v"
        ip link set "san$v" up
        ip -n tgt addr add "10.20.$v.254/24" dev "tsan$v"
        ip -n tgt link set "tsan$v" up
    done
}

# link_cut VLAN [target|host]: takes one end of the link down. The array's end: the host sees no carrier.
link_cut() {
    case ${2:-target} in
    target) ip -n tgt link set "tsan$1" down ;;
    host) ip link set "san$1" down ;;
    esac
    say "link of VLAN $1 down (${2:-target} end)"
}

link_give() {
    ip link set "san$1" up
    ip -n tgt link set "tsan$1" up
    say "link of VLAN $1 up"
}

# link_drop VLAN out|in|both: packets of one direction vanish (out = host to array); the carrier stays.
link_drop() {
    case $2 in out | both) ip netns exec tgt nft "add table netdev lab_drop$1; $(drop_chain "$1" "tsan$1")" ;; esac
    case $2 in in | both) nft "add table netdev lab_drop$1; $(drop_chain "$1" "san$1")" ;; esac
    say "VLAN $1: packets lost, direction $2"
}

# At the earliest hook, so that ARP vanishes too.
drop_chain() { # VLAN INTERFACE
    echo "add chain netdev lab_drop$1 in { type filter hook ingress device $2 priority 0; policy drop; }"
}

# link_reset VLAN: a TCP RST answers every segment of the VLAN's connections and every new one, until link_pass.
link_reset() {
    nft "add table ip lab_rst$1; add chain ip lab_rst$1 out { type filter hook output priority 0; };
         add rule ip lab_rst$1 out oifname san$1 tcp dport 3260 reject with tcp reset"
    say "VLAN $1: connections reset and refused"
}

# link_pass VLAN: undoes link_drop and link_reset.
link_pass() {
    nft delete table netdev "lab_drop$1" 2>/dev/null
    nft delete table ip "lab_rst$1" 2>/dev/null
    ip netns exec tgt nft delete table netdev "lab_drop$1" 2>/dev/null
    ip netns exec tgt nft delete table ip "lab_fin$1" 2>/dev/null
    say "VLAN $1: packets pass"
}

# rst_once VLAN: an RST ends the VLAN's established connections; new ones succeed at once.
rst_once() {
    ip netns exec tgt ss -K -t state established src "10.20.$1.254" >/dev/null
    say "VLAN $1: connections reset"
}

# fin_once VLAN: the VLAN's established connections end with a FIN: every answer of the array carries one from now on.
# New connections are let alone. link_pass removes the rule.
fin_once() {
    _ports=$(ip netns exec tgt ss -Htn state established src "10.20.$1.254:3260" | awk '{ sub(".*:", "", $4); print $4 }')
    ip netns exec tgt nft "add table ip lab_fin$1; add chain ip lab_fin$1 out { type filter hook output priority 0; };
         add rule ip lab_fin$1 out oifname tsan$1 tcp sport 3260 tcp dport { $(echo $_ports | tr ' ' ,) } tcp flags == 0x18 tcp flags set 0x19"
    say "VLAN $1: connections ended by the array"
}

# shape RATE|off: limits both directions of both links (tbf on both ends), e.g. shape 100mbit.
shape() {
    for v in 5 6; do
        tc qdisc del dev "san$v" root 2>/dev/null
        tc -n tgt qdisc del dev "tsan$v" root 2>/dev/null
        [ "$1" = off ] && continue
        tc qdisc add dev "san$v" root tbf rate "$1" burst 128k latency 50ms
        tc -n tgt qdisc add dev "tsan$v" root tbf rate "$1" burst 128k latency 50ms
    done
}

# --- the array ----------------------------------------------------------------------------------------------

# target_up [KEY=VALUE]...
#   backstore=fileio|iblock  size=1G  block=512|4096  cache=on|off  thin=on|off  ro=on|off
#   luns=1  disk=disk (the LUNs are disk0, disk1, ...)  name=store1 (a second target: another name)
#   device=/dev/...  a block device of the array's instead of a file (see park.py)   direct=off|on  fileio past the page cache
#   chap=USER:SECRET  mutual=USER:SECRET  portals="5 6"  groups=one|each (one portal group, or one per portal)
target_up() {
    backstore=fileio size=1G block=512 cache=on thin=on ro=off luns=1 name=store1 disk=disk
    chap='' mutual='' portals='5 6' groups=one device='' direct=off
    for _o in "$@"; do eval "${_o%%=*}=\${_o#*=}"; done
    modprobe -a target_core_mod target_core_file target_core_iblock iscsi_target_mod loop
    mkdir -p "$C/iscsi" /etc/target
    _tag=1
    for _v in $portals; do
        _t=$C/iscsi/iqn.2026-01.lab.sanblk:$name/tpgt_$_tag
        [ -d "$_t" ] || portal_group_up "$_t"
        # The portal's socket belongs to the network namespace of the process that makes the directory.
        # (Not `ip netns exec`: that mounts a fresh /sys, without configfs.)
        nsenter --net=/run/netns/tgt mkdir "$_t/np/10.20.$_v.254:3260"
        echo 1 >"$_t/enable"
        [ "$groups" = one ] || _tag=$((_tag + 1))
    done
}

portal_group_up() { # DIRECTORY
    mkdir -p "$1"
    echo 1 >"$1/attrib/generate_node_acls"
    echo 1 >"$1/attrib/cache_dynamic_acls"
    echo "$(onoff "$ro")" >"$1/attrib/demo_mode_write_protect"
    if [ -z "$chap" ]; then
        echo 0 >"$1/attrib/authentication"
    else
        echo 1 >"$1/attrib/authentication"
        printf %s "${chap%%:*}" >"$1/auth/userid"
        printf %s "${chap#*:}" >"$1/auth/password"
    fi
    if [ -n "$mutual" ]; then
        printf %s "${mutual%%:*}" >"$1/auth/userid_mutual"
        printf %s "${mutual#*:}" >"$1/auth/password_mutual"
    fi
    _n=0
    while [ $_n -lt "$luns" ]; do
        [ -n "$(backstore_dir "$disk$_n")" ] || backstore_up "$disk$_n"
        lun_map "$1" $_n "$disk$_n"
        _n=$((_n + 1))
    done
}

onoff() { [ "$1" = on ] && echo 1 || echo 0; }

# backstore_dir NAME: its configfs directory, wherever it was made.
backstore_dir() { ls -d "$C"/core/*/"$1" 2>/dev/null | head -1; }

# backstore_up NAME: a disk in the array, with the options that target_up parsed.
backstore_up() {
    mkdir -p "$STORE"
    _file=$device
    if [ -n "$_file" ]; then
        _size=$(blockdev --getsize64 "$_file")
    else
        _file=$STORE/$1.img
        truncate -s "$size" "$_file"
        _size=$(stat -c %s "$_file")
    fi
    case $backstore in
    fileio)
        _b=$C/core/fileio_0/$1
        mkdir -p "$_b"
        _flags=
        [ "$cache" = off ] || _flags=,fd_buffered_io=1
        [ "$direct" = off ] || _flags=$_flags,fd_async_io=1
        printf %s "fd_dev_name=$_file,fd_dev_size=$_size$_flags" >"$_b/control"
        ;;
    iblock)
        _b=$C/core/iblock_0/$1
        mkdir -p "$_b"
        [ -b "$_file" ] || _file=$(losetup --find --show --sector-size "$block" "$_file")
        printf %s "udev_path=$_file" >"$_b/control"
        ;;
    esac
    # The unit serial makes the NAA name: 6001405 and its hex digits.
    printf %s "$1" | md5sum | cut -c1-32 >"$_b/wwn/vpd_unit_serial"
    echo 1 >"$_b/enable"
    if [ "$backstore" = fileio ]; then
        echo "$block" >"$_b/attrib/block_size"
        echo "$(onoff "$cache")" >"$_b/attrib/emulate_write_cache"
    fi
    echo "$(onoff "$thin")" >"$_b/attrib/emulate_tpu"
    echo "$(onoff "$thin")" >"$_b/attrib/emulate_tpws"
}

# lun_map PORTAL-GROUP LUN NAME; lun_unmap PORTAL-GROUP LUN
lun_map() {
    mkdir -p "$1/lun/lun_$2"
    ln -s "$(backstore_dir "$3")" "$1/lun/lun_$2/$3"
}
lun_unmap() {
    for _l in "$1/lun/lun_$2"/*; do [ ! -L "$_l" ] || rm "$_l"; done
    rmdir "$1/lun/lun_$2"
}

# portal_del VLAN: LIO stops listening but leaves the connections, so they are reset as well.
portal_del() {
    rmdir "$C"/iscsi/*/tpgt_*/np/"10.20.$1.254:3260"
    rst_once "$1" >/dev/null
    say "portal of VLAN $1 removed"
}
portal_add() { # VLAN [PORTAL-GROUP]
    nsenter --net=/run/netns/tgt mkdir "$C/iscsi/$IQN/tpgt_${2:-1}/np/10.20.$1.254:3260"
    say "portal of VLAN $1 added"
}

# target_stop / target_start: the portal groups go off line (sessions end, logins are refused) and come back.
target_stop() {
    for _t in "$C"/iscsi/iqn.*/tpgt_*; do echo 0 >"$_t/enable"; done
    say "target stopped"
}
target_start() {
    for _t in "$C"/iscsi/iqn.*/tpgt_*; do echo 1 >"$_t/enable"; done
    say "target started"
}

# target_down: everything the array shows and the definitions of its disks; the backing files stay.
target_down() {
    for _t in "$C"/iscsi/iqn.*/tpgt_*; do
        [ -d "$_t" ] || continue
        echo 0 >"$_t/enable"
        for _d in "$_t"/np/*; do [ ! -d "$_d" ] || rmdir "$_d"; done
        for _d in "$_t"/lun/lun_*; do [ ! -d "$_d" ] || lun_unmap "$_t" "${_d##*lun_}"; done
        for _d in "$_t"/acls/*; do [ ! -d "$_d" ] || rmdir "$_d"; done
        rmdir "$_t"
    done
    for _d in "$C"/iscsi/iqn.*; do [ ! -d "$_d" ] || rmdir "$_d"; done
    for _d in "$C"/core/*_*/*; do [ ! -f "$_d/enable" ] || rmdir "$_d"; done
    for _d in "$C"/core/*_*; do [ ! -d "$_d" ] || rmdir "$_d"; done
    losetup -D
}

# tgt_up DEVICE: the other kind of array, tgtd, with one LUN on a block device, past the page cache.
tgt_up() {
    ip netns exec tgt tgtd
    within 5 tgtadm --lld iscsi --op show --mode sys
    expect tgtadm --lld iscsi --op new --mode target --tid 1 -T "$IQN"
    expect tgtadm --lld iscsi --op new --mode logicalunit --tid 1 --lun 1 -b "$1" --bsoflags direct
    expect tgtadm --lld iscsi --op bind --mode target --tid 1 -I ALL
}
tgt_down() {
    pkill -KILL -x tgtd
    waitfor 5 not pgrep -x tgtd
}

# backing_kib NAME: how much of a disk is allocated in the array.
backing_kib() { du -k "$STORE/$1.img" | cut -f1; }

# --- the kernel's own stack: open-iscsi and dm-multipath ----------------------------------------------------------

# kernel_stack_up [default|tuned]: logs in to both portals and waits for /dev/mapper/mpatha with both paths.
# tuned: the timers people lower so that a lost path is noticed in seconds. $only_portal: one VLAN, one path.
only_portal=
kernel_stack_up() {
    modprobe -a iscsi_tcp dm-multipath dm-round-robin scsi_dh_alua
    initiator_name
    mkdir -p /run/lock/iscsi
    pgrep -x iscsid >/dev/null || iscsid -p /run/iscsid.pid
    _poll=5 _fast=
    [ "${1:-default}" = default ] || _poll=1 _fast='fast_io_fail_tmo 1'
    cat >/etc/multipath.conf <<E
defaults {
    user_friendly_names yes
    find_multipaths no
    polling_interval $_poll
    $_fast
}
overrides {
    path_grouping_policy multibus
    path_selector "round-robin 0"
    rr_min_io_rq 1
    no_path_retry queue
}
E
    pgrep -x multipathd >/dev/null || multipathd
    # LIO answers with all its portals, tgt only with the one that was asked.
    expect iscsiadm -m discovery -t sendtargets -p "$P5"
    [ -n "$only_portal" ] || expect iscsiadm -m discovery -t sendtargets -p "$P6"
    if [ "${1:-default}" != default ]; then
        iscsiadm -m node -o update -n node.conn[0].timeo.noop_out_interval -v 1
        iscsiadm -m node -o update -n node.conn[0].timeo.noop_out_timeout -v 1
    fi
    if [ -n "$only_portal" ]; then
        expect iscsiadm -m node -p "10.20.$only_portal.254" --login
    else
        expect iscsiadm -m node --login
    fi
    within 40 test -b /dev/mapper/mpatha
    within 40 mpath_paths_are "$([ -n "$only_portal" ] && echo 1 || echo 2)"
    udevadm settle
}

# mpath_active: how many paths are active.  mpath_paths_are N: exactly that many are.
mpath_active() { multipathd show paths format "%t %T" | grep -c "active.*ready"; }
mpath_paths_are() { [ "$(mpath_active)" = "$1" ]; }

kernel_stack_down() {
    pgrep -x "iscsid|multipathd" >/dev/null || return 0
    udevadm settle
    # A map is busy for a moment while udev looks at it.
    if pgrep -x multipathd >/dev/null; then
        multipathd disablequeueing maps >/dev/null
        waitfor 10 sh -c 'multipath -F; ! ls /dev/mapper/mpath*'
    fi
    ! pgrep -x iscsid >/dev/null || iscsiadm -m node --logout >/dev/null 2>&1
    pkill -x multipathd
    pkill -x iscsid
    waitfor 5 sh -c '! pgrep -x "multipathd|iscsid"'
    # The bindings too: the next LUN is mpatha again.
    rm -rf /etc/multipath/* /etc/iscsi/nodes /etc/iscsi/send_targets /var/lib/iscsi/nodes /var/lib/iscsi/send_targets
    udevadm settle
}

initiator_name() { echo "InitiatorName=iqn.2026-01.lab.sanblk:$(hostname)" >/etc/iscsi/initiatorname.iscsi; }

# wwid_of_multipath: the name multipath-tools gives to the disk behind mpatha.
wwid_of_multipath() { multipathd show maps raw format '%w' | head -1 | tr -d ' '; }

# --- sanblk -------------------------------------------------------------------------------------------------

# Exit codes of sanblk.
NOT_FOUND=3 REFUSED=4 AMBIGUOUS=6 UNREACHABLE=7 DENIED=8 KERNEL=9 HELD=11

# attach [FLAGS]: sanblk attach over both portals; the device is left in $DEV.
attach() {
    if ! _attach_out=$(timeout $((30 * ${PATIENCE:-1})) sanblk attach --portal "$P5" --portal "$P6" "$@" 2>&1); then
        echo "$_attach_out"
        context
        fail "attach failed: $(echo "$_attach_out" | tail -1)"
    fi
    echo "$_attach_out"
    DEV=$(echo "$_attach_out" | grep -o '/dev/ublkb[0-9]*' | head -1)
    [ -b "$DEV" ] || fail "attach printed no block device: $_attach_out"
}

# attached [FLAGS]: attach and wait until both paths are up.
attached() {
    attach "$@"
    within 10 paths_up 2
    udevadm settle
}

# volume_json: the volume's object in `sanblk status --json`.  first_device: the first volume's device.
volume_json() { sanblk status --json | jq -c ".volumes[] | select(.device == \"$DEV\")"; }
first_device() { sanblk status --json | jq -r '.volumes[0].device // empty'; }

# field JQ: one field of it.
field() { volume_json | jq -r "$1"; }

# paths_up N: exactly that many paths are up.  path_field VLAN JQ: one field of one path.
paths_up() { [ "$(field '[.paths[] | select(.state == "up")] | length')" = "$1" ]; }
path_field() { field ".paths[] | select(.portal | startswith(\"10.20.$1.\")) | $2"; }

detach() {
    # udev opens a disk for a moment after each writer closed it.
    udevadm settle
    expect timeout 30 sanblk detach "$DEV" "$@"
    within 5 test ! -e "$DEV"
}

daemon_pid() { sanblk status --json | jq -r .daemon.pid; }

# --- IO -----------------------------------------------------------------------------------------------------

FIO='fio --direct=1 --ioengine=libaio --group_reporting --randrepeat=1 --thread'

# verify_fill DEV [SIZE]: writes a checked pattern, reads it back through the device and compares.
verify_fill() {
    expect $FIO --name=fill --filename="$1" --rw=write --bs=64k --iodepth=8 --size="${2:-64M}" \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0
}

# verify_again DEV [SIZE]: the pattern of verify_fill is still there.
verify_again() {
    expect $FIO --name=fill --filename="$1" --rw=write --bs=64k --iodepth=8 --size="${2:-64M}" \
        --verify=crc32c --verify_fatal=1 --verify_only --verify_state_save=0
}

# verify_start DEV SECONDS [FIO FLAGS]: random writes of mixed sizes, read back and compared, in the background.
verify_start() {
    _dev=$1 _run=$2
    shift 2
    $FIO --name=verify --filename="$_dev" --rw=randwrite --bs=4k --iodepth=16 --size=256M \
        --time_based --runtime="$_run" --verify=crc32c --verify_fatal=1 --verify_backlog=64 --verify_state_save=0 \
        --output-format=json --output=/tmp/verify.json "$@" >/tmp/verify.out 2>&1 &
    VERIFY=$!
}

# verify_done: the background IO ends without an error or a wrong byte; prints the slowest answer.
verify_done() { verify_ended 0; }

# verify_stop: the same, before its time. 128 is fio's word for "interrupted, and no error until then".
verify_stop() {
    kill -INT "$VERIFY"
    verify_ended 128
}

verify_ended() { # STATUS
    _status=0
    wait "$VERIFY" || _status=$?
    [ "$_status" = "$1" ] || { tail -20 /tmp/verify.out; grep -v '^[ {}]' /tmp/verify.json | head; context; fail "verified IO failed"; }
    sed -n '/^{/,$p' /tmp/verify.json >/tmp/verify.clean
    jq -r '.jobs[0] | select(.error == 0 and .read.total_ios > 0) | "   verified: \(.write.total_ios) writes, \(.read.total_ios) " +
        "read back, slowest \([.read.clat_ns.max, .write.clat_ns.max] | max / 1e6 | floor) ms"' /tmp/verify.clean | grep . ||
        fail "verified IO reports an error"
}

# slowest_ms: the slowest answer of the last verified IO.
slowest_ms() { jq -r '.jobs[0] | [.read.clat_ns.max, .write.clat_ns.max] | max / 1e6 | floor' /tmp/verify.clean; }

# attr NAME: an attribute of $DEV in sysfs, such as queue/logical_block_size.
attr() { cat "/sys/block/$(basename "$(readlink -f "$DEV")")/$1"; }

# completed DEV: reads and writes the block layer has seen complete.
completed() { awk '{ print $1 + $5 }' "/sys/block/$(basename "$(readlink -f "$1")")/stat"; }

# more_than N DEV: more than N have completed by now.  io_runs SECONDS: $DEV makes progress within the time.
more_than() { [ "$(completed "$2")" -gt "$1" ]; }
io_runs() { within "$1" more_than $(($(completed "$DEV") + 32)) "$DEV"; }

# --- clean state --------------------------------------------------------------------------------------------

udev_up() {
    pgrep -x systemd-udevd >/dev/null || /usr/lib/systemd/systemd-udevd --daemon
    udevadm trigger --type=devices --action=add --subsystem-match=block --subsystem-match=misc
    udevadm settle -t 20
}

# save_logs NAME: what the program wrote, where the host keeps it.
save_logs() {
    cat /run/sanblk/*.log /var/log/sanblk*.log /tmp/sanblk*.log >"$OUT/$1.sanblk.log" 2>/dev/null
    [ -s "$OUT/$1.sanblk.log" ] || rm -f "$OUT/$1.sanblk.log"
}

# kill_leftovers SIGNAL [NAMES]: every process that is neither the kernel's nor the guest's own machinery, nor has
# one of the names (a pattern). Children of the machinery (udev's workers, the agent's own shells) belong to it.
kill_leftovers() {
    _doomed=$(ps -eo pid=,ppid=,comm= | awk -v keep="$LAB_KEEP" -v names="^(${2:-})\$" '
        BEGIN { n = split(keep, k, " "); for (i = 1; i <= n; i++) machinery[k[i]] = 1 }
        $1 > 2 && $2 != 2 && !($1 in machinery) && !($2 in machinery) && $3 !~ names { print $1 }')
    # shellcheck disable=SC2086
    [ -z "$_doomed" ] || kill "-$1" $_doomed 2>/dev/null
}

# reset: back to an empty machine. Prints what it could not undo and fails then.
reset() {
    cd /
    # A link that is down or silent would keep sessions from ending.
    for v in 5 6; do
        link_pass $v >/dev/null 2>&1
        ip link set "san$v" up 2>/dev/null
        ip -n tgt link set "tsan$v" up 2>/dev/null
    done
    target_start >/dev/null 2>&1
    for _m in $(awk '$2 ~ "^/mnt" { print $2 }' /proc/mounts | sort -r); do timeout 20 umount -l "$_m"; done
    [ -z "$(ls /dev/mapper | grep -v -e control -e mpath)" ] || timeout 20 vgchange -an >/dev/null 2>&1
    for _d in /dev/ublkb*; do [ ! -b "$_d" ] || timeout 20 sanblk detach --force "$_d" >/dev/null 2>&1; done
    # The kernel's stack is taken down in order, by its own commands.
    kill_leftovers TERM "iscsid|multipathd"
    timeout 30 sh -c '. /host/lib.sh; kernel_stack_down' >/dev/null 2>&1
    for _d in $(dmsetup ls 2>/dev/null | grep -v '^No ' | cut -f1); do
        timeout 10 dmsetup remove --force "$_d" >/dev/null 2>&1
    done
    kill_leftovers KILL
    timeout 30 sh -c '. /host/lib.sh; target_down' >/dev/null 2>&1
    # What the array itself stood on.
    timeout 10 dmsetup remove_all --force >/dev/null 2>&1
    losetup -D
    ip netns del tgt 2>/dev/null
    for v in 5 6; do ip link del "san$v" 2>/dev/null; done
    rm -rf "$STORE" /run/sanblk /var/lib/sanblk /etc/sanblk /etc/multipath.conf /etc/multipath /tmp/* /run/lvm/* /etc/lvm/devices
    mkdir -p /etc/multipath
    rmmod brd scsi_debug nbd 2>/dev/null
    udevadm settle -t 10
    leftovers
}

# leftovers: fails and says what is still there.
leftovers() {
    _left=$(
        ls /dev/ublkb* /dev/sd* 2>/dev/null
        dmsetup ls 2>/dev/null | grep -v '^No ' | cut -f1
        ls -d "$C"/iscsi/iqn.* "$C"/core/*_*/* 2>/dev/null | grep -v hba_info
        losetup -n -O NAME 2>/dev/null
    )
    [ -z "$_left" ] || { echo "left behind: "$_left; return 1; }
}
