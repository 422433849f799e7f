# lab: time=2400 load=waits long=yes
# what: the ghost write on every target, with every kind of silence, the link given back before and after the park ends
. /host/ghost.sh
net_up
park_up
everything() { # LABEL
    for fault in both in out down; do
        ghost_picture "$1, $fault" $fault
    done
    ghost_own_return "$1, the link is given back before the park ends"
    for round in 1 2 3; do
        ghost_send_queue "$1, send queue, round $round"
    done
    detach
}
target_up backstore=iblock thin=off device=$PARKING
attached
everything "LIO iblock"
target_down
target_up backstore=fileio direct=on cache=off device=$PARKING
attached
everything "LIO fileio"
target_down
# Through the page cache: the retry waits for the parked write in the array's own memory.
target_up backstore=fileio cache=off device=$PARKING
attached
everything "LIO fileio, synchronous"
target_down
tgt_up $PARKING
attached
everything "tgt"
tgt_down
for how in wait at-once abort; do
    scripted_up --reinstate $how "$P5,1" "$P6,1"
    attached
    everything "scripted, $how"
    scripted_down
done
