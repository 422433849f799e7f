# lab: time=120
# what: 512 and 4096 byte LUNs from file and block backstores, with and without write cache
. /host/lib.sh
net_up
for backstore in fileio iblock; do
    for block in 512 4096; do
        for cache in on off; do
            [ $backstore$cache != iblockoff ] || continue
            say "$backstore, $block bytes, cache $cache"
            target_up backstore=$backstore block=$block cache=$cache size=256M disk=$backstore$block$cache
            attached
            same $block "$(attr queue/logical_block_size)" "logical block size"
            [ $backstore = iblock ] || {
                word='write back'
                [ $cache = on ] || word='write through'
                same "$word" "$(attr queue/write_cache)" "cache as the block layer sees it"
            }
            verify_fill "$DEV" 16M
            expect mkfs.ext4 -q "$DEV"
            mkdir -p /mnt/f
            expect mount "$DEV" /mnt/f
            expect dd if=/dev/zero of=/mnt/f/z bs=1M count=8 conv=fsync
            umount /mnt/f
            detach
            target_down
        done
    done
done
