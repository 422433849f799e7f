# Shared volume groups: LVM and lvmlockd as Debian ships them, on whatever serves sanlock's socket.

# lvm_up HOST-ID DEVICES [FLAGS]: LVM looks at these devices only (a pattern), and lvmlockd runs, with these flags.
lvm_up() {
    mkdir -p /etc/lvm /run/lvm /run/lock/lvm
    cat >/etc/lvm/lvm.conf <<E
global { use_lvmlockd = 1 }
devices { use_devicesfile = 0 filter = [ "a!^$2\$!", "r!.*!" ] global_filter = [ "a!^$2\$!", "r!.*!" ] }
E
    echo "local { host_id = $1 }" >/etc/lvm/lvmlocal.conf
    shift 2
    lvmlockd_up "$@"
}

lvmlockd_up() {
    expect lvmlockd "$@"
    within 60 timeout 5 lvmlockctl --info
    LVMLOCKD=$(pgrep -x lvmlockd)
}

# timed WHAT COMMAND...: it must succeed; says how long it took.
timed() {
    _timed=$1
    shift
    _timed_from=$(ms)
    expect "$@"
    echo "   $_timed: $(($(ms) - _timed_from)) ms"
}

# machine_id DIGIT: what a host's name in lockspaces is made of; a guest has none.
machine_id() { printf '%032d\n' "$1" >/etc/machine-id; }

# lv_lease LV: the resource that guards it, its UUID.
lv_lease() { lvs --noheadings -o uuid "$1" 2>/dev/null | tr -d ' '; }

# leased NAME MODE: `sanblk lease status` shows it held so.  not_leased NAME: it shows it not at all.
leased() {
    [ "$(sanblk lease status --json | jq -r ".lockspaces[].leases[] | select(.name == \"$1\") | .mode")" = "$2" ]
}
not_leased() { ! sanblk lease status --json | jq -r '.lockspaces[].leases[].name' | grep -qxF "$1"; }
