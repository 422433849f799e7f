# lab: time=180 load=waits long=yes with=sanlock-bookworm
# what: the same as lease-sanlock with the sanlock of Debian 12
PATH=/host/sanlock-bookworm/bin:$PATH
. /host/scenarios/lease-sanlock.sh
