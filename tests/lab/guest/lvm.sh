# A volume group that two hosts share, told once for every pair of stacks. A host runs one of
#
#   kernel   open-iscsi, dm-multipath, sanlock, lvmlockd
#   watched  the same, and wdmd with a watchdog that resets the machine
#   under    sanblk's block device; sanlock and lvmlockd on it
#   sanblk   sanblk, and lvmlockd that finds it where sanlock would be
#
# LVM and lvmlockd are Debian's, unmodified.

: "${IO_TIMEOUT:=}"

# --- a host ---------------------------------------------------------------------------------------------------

# stack_up STACK [ATTACH FLAGS]
stack_up() {
    echo "$1" >/run/stack
    cat >/etc/lvm/lvm.conf <<'E'
global { use_lvmlockd = 1 }
activation { udev_sync = 1 }
devices {
    use_devicesfile = 0
    global_filter = [ "a|^/dev/mapper/mpath|", "a|^/dev/ublkb|", "r|.*|" ]
}
E
    echo "local { host_id = ${ROLE#host} }" >/etc/lvm/lvmlocal.conf
    # Part of a host's name in a lockspace; a guest has none.
    printf '%032d\n' "${ROLE#host}" >/etc/machine-id
    _stack=$1
    shift
    case $_stack in
    kernel | watched) kernel_stack_up ;;
    under)
        initiator_name
        attached "$@"
        ;;
    sanblk)
        initiator_name
        # One that was killed leaves its socket.
        rm -f /run/sanlock/sanlock.sock
        sanblk daemon --sanlock-socket >/tmp/sanblk-daemon.log 2>&1 &
        echo $! >/run/daemon.pid
        within 20 test -S /run/sanlock/sanlock.sock
        attached "$@"
        ;;
    esac
    [ "$_stack" = sanblk ] || sanlock_up
    lvmlockd_up
}

sanlock_up() {
    mkdir -p /run/sanlock
    if stack_is watched; then
        modprobe softdog
        mkdir -p /run/wdmd
        wdmd -D -G root >/tmp/wdmd.log 2>&1 &
        within 10 test -S /run/wdmd/wdmd.sock
        _watchdog=1
    else
        _watchdog=0
    fi
    sanlock daemon -D -w $_watchdog -U root -G root -e "$ROLE" >/tmp/sanlock.log 2>&1 &
    within 20 sanlock client status
}

lvmlockd_up() {
    # shellcheck disable=SC2086
    lvmlockd --daemon-debug --gl-type sanlock ${IO_TIMEOUT:+--sanlock-timeout $IO_TIMEOUT} >/tmp/lvmlockd.log 2>&1 &
    within 20 lvmlockctl -i
}

stack_is() { [ "$(cat /run/stack)" = "$1" ]; }
disk() { if stack_is kernel || stack_is watched; then echo /dev/mapper/mpatha; else first_device; fi; }

vg_create() { vgcreate --shared vg0 "$(disk)" && locks_start; }
locks_start() { vgchange --lock-start vg0; }
locks_stop() { vgchange --lock-stop vg0; }
# The last host. vgremove of lvm2 2.03.31 never returns where sanlock has the locks; this way round it does, and without
# lvmlockd, for the global lock went with the VG.
vg_remove() {
    # That the other host has left is seen at the next renewal, every 2 t, with either lock manager.
    stack_is sanblk && { within 45 vgremove -y vg0; return; }
    expect vgchange --lock-stop vg0
    expect vgchange -y --lock-type none --lockopt force vg0
    vgremove -y --config 'global { use_lvmlockd = 0 }' vg0
}

# locked COMMAND...: refused in LVM's words for what another host has.
locked() {
    refused 5 "$@"
    says 'LV locked by other host: vg0/'
}

# write_stamp LV TEXT; stamp LV: a line in its first block, past every cache.
write_stamp() { echo "$2" | dd of="/dev/vg0/$1" bs=4096 conv=sync,nocreat oflag=direct status=none; }
stamp() { dd if="/dev/vg0/$1" bs=4096 count=1 iflag=direct status=none | tr -d '\0'; }
gone() { [ ! -e "/dev/vg0/$1" ]; }

# --- the story --------------------------------------------------------------------------------------------------

# vg_shared A B: A makes the VG, both may use it.
vg_shared() {
    say "== $1 makes a shared VG, $2 joins"
    on "$1" vg_create
    on "$2" locks_start
    same sanlock "$(ask "$2" vgs --noheadings -o locktype vg0 | tr -d ' ')" "lock type that $2 sees"
}

# one_at_a_time A B
one_at_a_time() {
    say "== an LV: $1 has it alone, $2 is refused"
    on "$1" lvcreate -y -Wn -an -L 64M -n lv0 vg0
    on "$1" lvchange -aey vg0/lv0
    on "$1" write_stamp lv0 "written by $1"
    on "$2" locked lvchange -aey vg0/lv0
    on "$2" locked lvchange -asy vg0/lv0
    on "$2" locked lvremove -y vg0/lv0
    on "$2" gone lv0

    say "== $1 gives it back, $2 has it alone"
    on "$1" lvchange -an vg0/lv0
    on "$1" gone lv0
    on "$2" lvchange -aey vg0/lv0
    same "written by $1" "$(ask "$2" stamp lv0)" "what $2 reads"
    on "$2" write_stamp lv0 "written by $2"
    on "$1" locked lvchange -aey vg0/lv0
    on "$2" lvchange -an vg0/lv0
}

# shared_by_both A B
shared_by_both() {
    say "== both have it, shared"
    on "$1" lvchange -asy vg0/lv0
    on "$2" lvchange -asy vg0/lv0
    for _host in "$1" "$2"; do
        same "written by $2" "$(ask "$_host" stamp lv0)" "what $_host reads"
    done
    on "$1" lvchange -an vg0/lv0
    on "$1" locked lvchange -aey vg0/lv0
    on "$2" lvchange -an vg0/lv0
}

# changed A B: size and name
changed() {
    say "== $1 extends it, $2 renames it"
    on "$1" lvchange -aey vg0/lv0
    on "$1" lvextend -L +64M vg0/lv0
    on "$2" locked lvextend -L +64M vg0/lv0
    on "$1" lvchange -an vg0/lv0
    same 128 "$(ask "$2" lvs --noheadings --nosuffix --units m -o lv_size vg0/lv0 | sed 's/ *//; s/\..*//')" "MiB that $2 sees"
    on "$2" lvrename vg0/lv0 vg0/lv1
    on "$1" lvchange -aey vg0/lv1
    same "written by $2" "$(ask "$1" stamp lv1)" "what $1 reads"
}

# power_lost A B: of $1 while it has lv1; $2 must wait for it, and it has it back
power_lost() {
    say "== $1 loses its power"
    _stack=$(ask "$1" cat /run/stack)
    power_cycle "$1"
    on "$2" locked lvchange -aey vg0/lv1
    on "$1" stack_up "$_stack"
    on "$1" locks_start
    on "$1" lvchange -aey vg0/lv1
    same "written by $2" "$(ask "$1" stamp lv1)" "what $1 reads"
    on "$2" locked lvchange -aey vg0/lv1
    on "$1" lvchange -an vg0/lv1
    on "$2" lvchange -aey vg0/lv1
    on "$2" lvchange -an vg0/lv1
}

# removed A B: LV and VG, by $2
removed() {
    say "== $2 removes all"
    on "$2" lvremove -y vg0/lv1
    on "$1" locks_stop
    on "$2" vg_remove
    on "$1" not vgs vg0
}

# lvm_story A B
lvm_story() {
    vg_shared "$1" "$2"
    one_at_a_time "$1" "$2"
    shared_by_both "$1" "$2"
    changed "$1" "$2"
    power_lost "$1" "$2"
    removed "$1" "$2"
}
