# lab: guests=3 time=420 load=waits long=yes kernel=stable
# what: a shared VG on two hosts with open-iscsi, dm-multipath, sanlock and lvmlockd: the story that the other lvm scenarios are compared with
. /host/lvm.sh
story() {
    target_up
    both stack_up kernel
    lvm_story host1 host2
}
