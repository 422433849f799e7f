# lab: time=300 long=backports
# what: no path is failed because our process is paused, the array's backend stalls, or the load is full
. /host/lib.sh
net_up

lost() { field '[.paths[].losses] | add'; }

# calm LABEL COMMAND...: while the command runs, and in the seconds after, no path is lost.
calm() {
    say "== $1"
    shift
    _before=$(lost)
    "$@"
    sleep 3
    io_runs 60
    same "$_before" "$(lost)" "paths lost"
    within 60 paths_up 2
}
paused() {
    pid=$(daemon_pid)
    kill -STOP "$pid"
    sleep "$1"
    kill -CONT "$pid"
}
stalled() {
    expect dmsetup suspend --nolockfs --noflush stall
    sleep "$1"
    expect dmsetup resume stall
}

# The array's disk, with a switch.
mkdir -p "$STORE"
truncate -s 512M "$STORE/stall.img"
modprobe -a loop dm_mod
loop=$(losetup --find --show "$STORE/stall.img")
expect dmsetup create stall --table "0 1048576 linear $loop 0"

for backstore in iblock fileio; do
    # fileio without its cache: LIO's receive thread waits for the disk itself, and answers no ping meanwhile.
    target_up backstore=$backstore cache=off thin=off device=/dev/mapper/stall
    attached
    verify_start "$DEV" 100000 --rate_iops=200
    io_runs 60
    calm "$backstore: the backend stalls for 5 s" stalled 5
    if [ $backstore = iblock ]; then
        for seconds in 0.1 1 10; do calm "our process is paused for $seconds s" paused $seconds; done
    fi
    verify_stop
    if [ $backstore = iblock ]; then
        load() { verify_start "$DEV" 20 --bsrange=4k-512k --iodepth=64 --numjobs=2 --offset_increment=256M --size=200M && verify_done; }
        say "== full load"
        before=$(lost)
        load
        same "$before" "$(lost)" "paths lost"
    fi
    detach
    target_down
done
# udev may still look at it.
within 10 dmsetup remove stall
