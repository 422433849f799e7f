# Several guests: `store`, the array, and `host1` and `host2`. A scenario's file is read in each of them and defines
# functions; one of them, story, runs in the array and has the hosts do the rest:
#
#   on host1 lvchange -aey vg0/lv0          # must succeed; what it prints appears on host1's console
#   on host2 refused 5 lvchange -aey vg0/lv0
#   ask host1 lvs --noheadings -o name      # the same, and its standard output is the answer
#   on host1 a_function & joined $!         # for what happens at the same time
#
# Each call runs in a shell of its own, with all functions and no variables of earlier calls. The story waits $LIMIT
# seconds for one; the calls of a host that loses its power end then.
#
#   /peers/ROLE/up              the host takes calls
#   /peers/ROLE/N.call          a call: a line to show, then shell text; N.taken once it runs; N.rc its exit status; N.out its answer
#   /peers/over                 the story is over

# Three guests on two cores that others use too: what lib.sh waits for may take longer, in steps of the usual patience.
PATIENCE=$(awk '{ printf "%d", ($1 > 2 ? $1 / 2 : 1) }' /host/patience)
: "${LIMIT:=$((180 * PATIENCE))}"
mkdir -p /peers
mountpoint -q /peers || mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none peers /peers

# --- the array's side ---------------------------------------------------------------------------------------

on() {
    _role=$1
    shift
    _call=$(call "$_role" "$*" "$(quoted "$@")")
    _rc=$(answer_of "$_call")
    [ "$_rc" = 0 ] || fail "$_role: status $_rc: $*"
}

ask() {
    _role=$1
    shift
    _call=$(call "$_role" "$*" "$(quoted "$@") >\"\$ANSWER\"")
    _rc=$(answer_of "$_call")
    cat "$_call.out" 2>/dev/null
    [ "$_rc" = 0 ]
}

# joined PID: a call that was made in the background went well.
joined() { wait "$1" || exit 1; }

# both COMMAND...: on both hosts at the same time.
both() {
    on host1 "$@" &
    _other=$!
    on host2 "$@"
    joined $_other
}

# call ROLE WORDS TEXT: makes a call of a shell text, shown as these words; prints its place without its ending.
call() {
    _name=$(mktemp -p "/peers/$1")
    { echo "$2" | tr '\n' ' '; echo; echo "$3"; } >"$_name"
    mv "$_name" "$_name.call"
    echo "$_name"
}

answer_of() { # CALL
    _end=$(($(ms) + LIMIT * 1000))
    until [ -s "$1.rc" ]; do
        [ "$(ms)" -lt "$_end" ] || { echo "none in $LIMIT s"; return; }
        sleep 0.05
    done
    cat "$1.rc"
}

quoted() {
    for _word; do
        case $_word in *\'*) _word=$(echo "$_word" | sed "s/'/'\\\\''/g") ;; esac
        printf "'%s' " "$_word"
    done
}

# power_cycle HOST: its power goes, without a word to anybody, and comes back.
power_cycle() {
    rm -f "/peers/$1/up" "/peers/$1"/*.call
    echo "@lab power-cycle $1"
    comes_up "$1"
}

comes_up() {
    within 200 test -e "/peers/$1/up"
    for _taken in "/peers/$1"/*.taken; do
        [ ! -e "$_taken" ] || [ -s "${_taken%.taken}.rc" ] || echo power-cut >"${_taken%.taken}.rc"
    done
}

# may_reset HOST: it may end by itself, and boots again when it did.  has_reset HOST SECONDS: it does so within the time.
may_reset() {
    rm -f "/peers/$1/up"
    touch "/peers/$1/resets"
}
has_reset() {
    within "$2" test ! -e "/peers/$1/resets"
    comes_up "$1"
}

# vlan_cut HOST [VLAN...]: nothing passes the array's end of the host's cables; nobody sees a carrier go. vlan_give HOST [VLAN...]
vlan_cut() { ports 0 "$@" && say "cut: $*"; }
vlan_give() { ports 3 "$@" && say "given back: $*"; }
ports() { # STATE HOST [VLAN...]
    _state=$1 _host=$2
    shift 2
    [ $# -gt 0 ] || set -- 5 6
    for _vlan; do expect bridge link set dev "${_host}v$_vlan" state "$_state"; done
}

# --- the hosts' side ----------------------------------------------------------------------------------------

serve() {
    echo 1 >"/peers/$ROLE/up"
    while [ ! -e /peers/over ]; do
        for _call in "/peers/$ROLE"/*.call; do
            [ -e "$_call" ] || continue
            _call=${_call%.call}
            mv "$_call.call" "$_call.taken"
            perform "$_call" &
        done
        sleep 0.05
    done
}

perform() { # CALL
    ANSWER=$1.out
    { read -r _words; _text=$(cat); } <"$1.taken"
    echo "\$ $_words"
    _began=$(ms)
    (eval "$_text")
    _status=$?
    _took=$(($(ms) - _began))
    [ $_took -lt 1000 ] || echo "  ($((_took / 1000)).$((_took / 100 % 10)) s)"
    echo $_status >"$1.done"
    mv "$1.done" "$1.rc"
}

# --- both sides ---------------------------------------------------------------------------------------------

# The cables get the names that lib.sh knows: san5 and san6 on a host, 10.20.5.1 and 10.20.6.1 on the first. In the array
# host1v5 and so on are ports of one bridge per VLAN, and the namespace "tgt" is the guest itself.
cables_up() {
    modprobe -a virtio_net bridge
    udevadm settle
    for _eth in /sys/class/net/eth*; do
        _mac=$(cat "$_eth/address")
        _end=${_mac##*:} _vlan=${_mac%:*}
        _vlan=$((0x${_vlan##*:}))
        if [ "$ROLE" = store ]; then
            _name=host${_end#9}v$_vlan
        else
            _name=san$_vlan
        fi
        ip link set "${_eth##*/}" name "$_name"
        ip link set "$_name" up
        [ "$ROLE" = store ] || ip addr add "10.20.$_vlan.${_end#0}/24" dev "$_name"
    done
    [ "$ROLE" = store ] || return 0
    for _vlan in 5 6; do
        ip link add "br$_vlan" type bridge
        for _host in host1 host2; do ip link set "${_host}v$_vlan" master "br$_vlan"; done
        ip addr add "10.20.$_vlan.254/24" dev "br$_vlan"
        ip link set "br$_vlan" up
    done
    touch /run/netns/tgt
    mount --bind /proc/1/ns/net /run/netns/tgt
}

# What this guest's programs wrote, where the runner finds it.
save_part() {
    save_logs "$LAB_NAME"
    for _log in /tmp/*.log; do [ ! -s "$_log" ] || cp "$_log" "$OUT/$LAB_NAME.$(basename "$_log")"; done
    sync
}
