# lab: kernel=stable time=300 load=waits
# what: a parked write executes late on a target that reinstates in each known way, or is fenced by the path's own return
. /host/ghost.sh
net_up
for how in wait at-once abort; do
    scripted_up --reinstate $how "$P5,1" "$P6,1"
    attached
    ghost_picture "reinstatement through the other portal; the target's way: $how"
    detach
    scripted_down
done
scripted_up --reinstate at-once "$P5,1" "$P6,2"
attached
ghost_own_return "each portal has a group of its own; the path returns"
detach
scripted_down
