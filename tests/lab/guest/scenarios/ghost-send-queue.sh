# lab: time=300 load=waits
# what: old writes sit in our own kernel's send queue until the link is given back: the newer writes survive
. /host/ghost.sh
net_up
mkdir -p $CTL
target_up backstore=iblock size=64M
attached
ghost_send_queue "LIO: fenced through the other portal, then the link is given back"
detach
target_down
scripted_up --reinstate at-once "$P5,1" "$P6,2"
attached
ghost_send_queue "each portal has a group of its own: fenced by the path's return" returns
detach
scripted_down
