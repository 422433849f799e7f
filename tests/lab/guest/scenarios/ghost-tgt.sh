# lab: kernel=stable time=150 load=waits
# what: a write parked in tgt's backend executes late, its path silent: the newer write survives
. /host/ghost.sh
net_up
park_up
tgt_up $PARKING
attached
ghost_picture "tgt"
detach
tgt_down
