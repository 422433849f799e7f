# lab: guests=3 time=700 load=waits kernel=stable long=yes
# what: a shared VG on two hosts, one with open-iscsi, dm-multipath and sanlock, one with sanblk: each is the first once
. /host/lvm.sh
story() {
    target_up
    on host1 stack_up kernel &
    on host2 stack_up sanblk
    joined $!
    lvm_story host1 host2
    lvm_story host2 host1
}
