# lab: guests=3 time=420 load=waits kernel=stable
# what: a shared VG on two hosts with sanblk and an unmodified lvmlockd, without sanlock: activation, refusal, sharing, extend, rename, a host that loses its power, vgremove
. /host/lvm.sh
IO_TIMEOUT=2
story() {
    target_up
    both stack_up sanblk
    lvm_story host1 host2
}
