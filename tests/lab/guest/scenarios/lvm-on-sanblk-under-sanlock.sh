# lab: guests=3 time=420 load=waits long=yes kernel=stable
# what: a shared VG on two hosts with sanblk in place of open-iscsi and dm-multipath; sanlock and lvmlockd as before
. /host/lvm.sh
story() {
    target_up
    both stack_up under
    lvm_story host1 host2
}
