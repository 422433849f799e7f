# lab: time=900 load=waits long=yes
# what: portals of different groups, and the path does not return: an unresolved write is answered after the timed hold only
. /host/ghost.sh
net_up
scripted_up --reinstate at-once "$P5,1" "$P6,2"
attached
sanblk status
ghost_parked "timed hold"
ghost_released
sanblk status
ghost_over 600
ghost_survived
ghost_heal
within 60 paths_up 2
detach
scripted_down
