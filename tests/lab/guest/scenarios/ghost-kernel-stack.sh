# lab: time=180 load=waits long=yes
# what: the same rig on open-iscsi + dm-multipath: it loses the newer write, so the rig can tell
. /host/ghost.sh
net_up
park_up
target_up backstore=iblock thin=off device=$PARKING
kernel_stack_up tuned
DEV=/dev/mapper/mpatha
multipath -ll
ghost_parked "open-iscsi + dm-multipath on LIO iblock, tuned timers"
ghost_released
ghost_over
multipath -ll
if python3 /host/overwrite.py $DEV check x-$GHOSTS $BLOCKS; then
    fail "the newer write survived on a stack without a fence: the rig shows nothing"
fi
say "open-iscsi + dm-multipath LOST the newer write"
ghost_heal
within 30 mpath_paths_are 2
