# lab: time=180 load=waits
# what: a write parked in LIO's backend (block device, file) executes late, its path silent: the newer write survives
. /host/ghost.sh
net_up
park_up
target_up backstore=iblock device=$PARKING thin=off
attached
ghost_picture "LIO iblock"
detach
target_down

target_up backstore=fileio direct=on cache=off device=$PARKING thin=off
attached
ghost_picture "LIO fileio"
detach
