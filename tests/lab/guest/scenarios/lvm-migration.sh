# lab: guests=3 time=420 load=waits long=yes kernel=stable
# what: a live migration as a hypervisor does it: the LV shared by both hosts while the guest's IO moves, then the new one's alone; verified across the move, there and back
. /host/lvm.sh

story() {
    target_up
    both stack_up sanblk
    vg_shared host1 host2
    on host1 lvcreate -y -Wn -an -L 64M -n lv0 vg0
    on host1 lvchange -aey vg0/lv0
    on host1 verify_fill /dev/vg0/lv0 32M
    moves host1 host2
    moves host2 host1
    on host1 lvchange -an vg0/lv0
}

# moves FROM TO: FROM has the LV alone, and a guest on it.
moves() {
    say "== a guest moves from $1 to $2"
    on "$1" guest_runs &
    GUEST=$!
    sleep 5
    on "$2" locked lvchange -asy vg0/lv0
    on "$1" lvchange -asy vg0/lv0
    on "$2" lvchange -asy vg0/lv0
    on "$2" locked lvchange -aey vg0/lv0
    on "$1" guest_stops
    joined $GUEST
    on "$2" verify_again /dev/vg0/lv0 32M
    on "$2" guest_runs &
    GUEST=$!
    on "$1" lvchange -an vg0/lv0
    on "$2" lvchange -aey vg0/lv0
    on "$1" locked lvchange -asy vg0/lv0
    on "$2" guest_stops
    joined $GUEST
}

# Direct IO, written and read back over and over, until guest_stops.
guest_runs() {
    verify_fill /dev/vg0/lv0 32M
    until [ -e /run/guest-stops ]; do verify_fill /dev/vg0/lv0 32M; done
    rm /run/guest-stops
}
guest_stops() { touch /run/guest-stops; }
