# lab: time=120 long=backports
# what: verified IO over both paths with data and header digests off and on; a target without them is refused
. /host/lib.sh
net_up
target_up
T=$C/iscsi/$IQN/tpgt_1
bytes() { cat "/sys/class/net/san$1/statistics/tx_bytes"; }
for header in none crc32c; do
    for data in none crc32c; do
        say "header digest $header, data digest $data"
        # The target insists too, so that a wrong choice cannot pass unseen.
        word=None
        [ $header = none ] || word=CRC32C
        echo $word >"$T/param/HeaderDigest"
        word=None
        [ $data = none ] || word=CRC32C
        echo $word >"$T/param/DataDigest"
        # Each path takes its share, however busy this machine is.
        attached --header-digest $header --data-digest $data --policy round-robin
        for v in 5 6; do
            wanted="$([ $header = none ] && echo false || echo true) $([ $data = none ] && echo false || echo true)"
            same "$wanted" "$(path_field $v '.session | "\(.header_digest) \(.data_digest)"')" "digests on VLAN $v"
        done
        b5=$(bytes 5) b6=$(bytes 6)
        verify_fill "$DEV" 16M
        verify_start "$DEV" 4
        verify_done
        for v in 5 6; do
            eval "b=\$b$v"
            [ $(($(bytes $v) - b)) -gt 4000000 ] || fail "VLAN $v carried $(($(bytes $v) - b)) bytes only"
        done
        detach
    done
done
echo None >"$T/param/DataDigest"
say "required here, switched off there"
refute sanblk attach --portal "$P5" --data-digest crc32c
says digest
