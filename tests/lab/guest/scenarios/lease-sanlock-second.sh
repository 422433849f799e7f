# lab: time=180 load=waits long=yes
# what: the same as lease-sanlock with the numbers exchanged: sanblk is host 1, sanlock's daemon host 2
THEIR_ID=2 THEIR_NAME=south OUR_ID=1 OUR_NAME=north
. /host/scenarios/lease-sanlock.sh
