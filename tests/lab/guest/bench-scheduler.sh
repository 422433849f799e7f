# what: how well two unequal links are used: sanblk's policies beside dm-multipath's path selectors, in turns
#
# Every contender has a LUN of its own, all on one file of the array, and stays attached, so that a turn is one fio.
#
#   target kernel      LUN 0, 1, 2 through both VLANs: one dm-multipath map per path selector
#   target sanblk      LUN 0 through both VLANs
#   target kernel-one, sanblk-one   LUN 0 through VLAN 6 alone, which is always good: the reference
#
# Both VLANs run at $MBIT with jumbo frames; VLAN 5 is the one that is slow, far, lossy or flaps.
. /host/bench.sh
SELECTORS='round-robin queue-length service-time'
# One jumbo frame is one packet for the queue, so that loss counts what a switch would lose.
MTU=9000
# What a link may queue, in packets: more than any workload has under way, so that only the lossy link loses some.
QUEUE=1500

net_up
for v in 5 6; do
    expect ip link set "san$v" mtu $MTU gso_max_segs 1
    expect ip -n tgt link set "tsan$v" mtu $MTU gso_max_segs 1
done

# link_like VLAN MBIT [NETEM-WORD]...: both directions of a link.
link_like() {
    _vlan=$1 _mbit=$2
    shift 2
    expect tc qdisc replace dev "san$_vlan" root netem limit $QUEUE rate "${_mbit}mbit" "$@"
    expect tc -n tgt qdisc replace dev "tsan$_vlan" root netem limit $QUEUE rate "${_mbit}mbit" "$@"
}

# network NAME: VLAN 5 beside the good VLAN 6.
network() {
    flapping=
    link_like 6 "$MBIT"
    case $1 in
    one-link | equal | flap) link_like 5 "$MBIT" ;;
    slow) link_like 5 $((MBIT * 2 / 5)) ;;
    far) link_like 5 "$MBIT" delay 2500us ;;
    lossy) link_like 5 "$MBIT" loss 1% ;;
    esac
}

# Every 2 s the link is silent for 300 ms, both ways. Each silence is written down as it really was.
flap_begin() {
    : >flaps
    while :; do
        link_drop 5 both
        _silent=$(ms)
        sleep 0.3
        link_pass 5
        echo $(($(ms) - _silent)) >>flaps
        sleep 1.7
    done >/dev/null 2>&1 &
    flapping=$!
}
flap_end() {
    kill "$flapping"
    wait "$flapping" 2>/dev/null
    # A command of the loop may still be on its way.
    sleep 0.2
    link_pass 5 >/dev/null
    say "the link was silent $(wc -l <flaps) times, $(sort -n flaps | sed -n '1p;$p' | paste -sd' ' | sed 's/ /../') ms"
}

# --- the contenders -----------------------------------------------------------------------------------------

# disk_on_file NAME: a disk of the array whose backing file is the one file of all.
disk_on_file() { ln "$STORE/all.img" "$STORE/$1.img"; }
mkdir -p "$STORE"
expect dd if=/dev/zero of="$STORE/all.img" bs=1M count=512
for name in kernel0 kernel1 kernel2 sanblk0 kernel-one0 sanblk-one0; do disk_on_file $name; done
target_up size=512M name=kernel disk=kernel luns=3
target_up size=512M name=sanblk disk=sanblk
target_up size=512M name=kernel-one disk=kernel-one portals=6
target_up size=512M name=sanblk-one disk=sanblk-one portals=6

# wwid_of NAME: the name multipath-tools gives to a disk of LIO: NAA 6, LIO's company, 25 digits of the serial.
wwid_of() { echo "36001405$(printf %s "$1" | md5sum | cut -c1-25)"; }

# map_named ALIAS DISK [LINE]: an entry of multipath.conf.
map_named() { printf '    multipath {\n        wwid %s\n        alias %s\n        %s\n    }\n' "$(wwid_of "$2")" "$1" "$3"; }

# maps: one per path selector, and one of a single path.
maps() {
    _n=0
    for _s in $SELECTORS; do
        map_named "$_s" kernel$_n "path_selector \"$_s 0\""
        _n=$((_n + 1))
    done
    map_named one-link kernel-one0
}

# kernel_up: /dev/mapper/round-robin, queue-length, service-time, and one-link (default selector, one path).
kernel_up() {
    modprobe -a iscsi_tcp dm-multipath dm-round-robin dm-queue-length dm-service-time scsi_dh_alua
    initiator_name
    mkdir -p /run/lock/iscsi
    iscsid -p /run/iscsid.pid
    cat >/etc/multipath.conf <<E
defaults {
    find_multipaths no
}
overrides {
    path_grouping_policy multibus
    rr_min_io_rq 1
    no_path_retry queue
}
multipaths {
$(maps)
}
E
    multipathd
    expect iscsiadm -m discovery -t sendtargets -p "$P6"
    for _t in kernel kernel-one; do expect iscsiadm -m node -T "iqn.2026-01.lab.sanblk:$_t" --login; done
    for _s in $SELECTORS; do
        within 120 map_has 2 "$_s"
        dmsetup table "$_s" | grep -q " $_s 0 2 " || fail "the map does not use $_s: $(dmsetup table "$_s")"
    done
    within 120 map_has 1 one-link
    multipath -ll
}
# map_has PATHS MAP
map_has() { [ "$(multipathd show paths format '%m %t %T' | grep -c "^$2 *active *ready")" = "$1" ]; }

# sanblk_up: attached anew in each round and before the link flaps, so that no penalty of a network before counts.
sanblk_up() {
    for _d in $SANBLK_ONE $SANBLK_TWO; do DEV=$_d detach; done
    SANBLK_TWO=$(sanblk_device 5 6 sanblk)
    SANBLK_ONE=$(sanblk_device '' 6 sanblk-one)
    DEV=$SANBLK_TWO within 60 paths_up 2
    DEV=$SANBLK_ONE within 60 paths_up 1
    udevadm settle
}
SANBLK_ONE='' SANBLK_TWO=''
sanblk_device() { # VLAN|'' VLAN TARGET
    _flags=
    for _v in $1 $2; do _flags="$_flags --portal 10.20.$_v.254"; done
    # shellcheck disable=SC2086
    _said=$(sanblk attach $_flags --target "iqn.2026-01.lab.sanblk:$3" 2>&1) || fail "attach: $_said" >&2
    echo "$_said" | grep -o '/dev/ublkb[0-9]*' | head -1
}

# take_turn CONTENDER: its device in $DEV.
take_turn() {
    case $1 in
    dm-one-link) DEV=/dev/mapper/one-link ;;
    dm-*) DEV=/dev/mapper/${1#dm-} ;;
    sanblk-one-link) DEV=$SANBLK_ONE ;;
    sanblk-*)
        DEV=$SANBLK_TWO
        expect sanblk set "$DEV" --policy "${1#sanblk-}"
        ;;
    esac
}

# --- the workloads ------------------------------------------------------------------------------------------

# workloads NETWORK: the jobs that tell something there.
workloads() {
    _s=$ROW_SECONDS
    # Before a row counts, TCP and the policies have settled on the link.
    _settle=500ms
    case $1 in
    flap)
        job 128k-read-qd32 $((3 * _s)) 0 rw=randread bs=128k iodepth=32
        # The proportions that 128 KiB have on a gigabit: 32 of them are 20 ms of both links.
        job 16k-read-qd32 $((3 * _s)) 0 rw=randread bs=16k iodepth=32
        return
        ;;
    esac
    job 1m-read-qd1 "$_s" $_settle rw=read bs=1m iodepth=1
    job 1m-write-qd1 "$_s" $_settle rw=write bs=1m iodepth=1
    case $1 in one-link | equal | slow) job 128k-read-qd1 "$_s" $_settle rw=randread bs=128k iodepth=1 ;; esac
    case $1 in equal | slow) job 1m-read-qd8 $((2 * _s)) $_settle rw=read bs=1m iodepth=8 ;; esac
    case $1 in
    equal)
        job 1m-write-qd8 $((2 * _s)) $_settle rw=write bs=1m iodepth=8
        job 4k-read-qd1-beside-bulk $((2 * _s)) $_settle rw=randread bs=4k iodepth=1
        beside 1m-read-qd4-beside-4k rw=read bs=1m iodepth=4
        ;;
    esac
    # Enough small IOs for a p99.9.
    case $1 in one-link | far | lossy) job 4k-read-qd1 $((2 * _s)) $_settle rw=randread bs=4k iodepth=1 ;; esac
    case $1 in
    one-link)
        job 128k-read-qd32 "$_s" 0 rw=randread bs=128k iodepth=32
        job 16k-read-qd32 "$_s" 0 rw=randread bs=16k iodepth=32
        ;;
    esac
}

contenders() { # NETWORK
    case $1 in
    one-link) echo dm-one-link sanblk-one-link ;;
    *)
        for _s in $SELECTORS; do echo "dm-$_s"; done
        for _p in $POLICIES; do echo "sanblk-$_p"; done
        ;;
    esac
}

network equal
kernel_up
round=1
while [ "$round" -le "$ROUNDS" ]; do
    for net in one-link equal slow far lossy flap; do
        case $net in one-link | flap) sanblk_up ;; esac
        network $net
        # shellcheck disable=SC2046
        order=$(rotated $((round - 1)) $(contenders $net))
        say "== round $round of $ROUNDS, $net: $order"
        for contender in $order; do
            take_turn "$contender"
            jobs_begin
            workloads $net
            [ $net != flap ] || flap_begin
            jobs_run "{\"network\":\"$net\",\"stack\":\"$contender\",\"round\":$round}"
            [ $net != flap ] || flap_end
        done
    done
    network equal
    round=$((round + 1))
done
for _d in $SANBLK_ONE $SANBLK_TWO; do DEV=$_d detach; done
