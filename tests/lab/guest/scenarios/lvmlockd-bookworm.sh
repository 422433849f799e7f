# lab: boot=own time=400 load=waits kernel=stable long=yes with=lvm-bookworm
# what: the same as lvmlockd-one-host with the LVM and lvmlockd of Debian 12
PATH=/host/lvm-bookworm/bin:$PATH
. /host/scenarios/lvmlockd-one-host.sh
