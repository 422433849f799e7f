# lab: time=240 load=waits long=backports
# what: a link is lost in each way (either end down, packets lost in either direction) under verified IO and comes back
. /host/lib.sh
net_up
target_up
attached
round() { # LABEL CUT... : verified IO over the cut and the return
    label=$1
    shift
    say "== $label"
    verify_start "$DEV" 100000
    sleep 3
    "$@"
    within 15 paths_up 1
    io_runs 10
    sanblk status
    sleep 2
    link_pass 5 >/dev/null
    link_give 5
    within 30 paths_up 2
    io_runs 5
    verify_stop
    [ "$(slowest_ms)" -lt 15000 ] || fail "$label: an IO took $(slowest_ms) ms; the kernel's stack with default timers needs 15 s"
}
round "the array's end goes down" link_cut 5 target
round "the host's end goes down" link_cut 5 host
round "packets to the array are lost" link_drop 5 out
round "packets from the array are lost" link_drop 5 in
detach
