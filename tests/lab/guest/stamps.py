"""Who wrote what, block by block: `stamps.py write DISK WORD [EVERY]`, `stamps.py judge BEFORE AFTER OLD NEW EVERY`.

write: 16 threads write blocks of 64 KiB past every cache, each with WORD and a number that grows, until an error: without
EVERY at random places, for ever; with it each block whose number it divides, once.

judge: of two copies of the medium, BEFORE taken when NEW's host had just become the owner, AFTER at the end: every block
that NEW wrote (those whose number EVERY divides) is NEW's, and every other one is as it was.
"""

import mmap
import os
import random
import sys
import threading

SIZE = 65536
THREADS = 16


def stamp(data):
    return bytes(data[:64]).rstrip(b"\0").decode("ascii", "replace")


def write(disk, word, every):
    fd = os.open(disk, os.O_RDWR | os.O_DIRECT)
    blocks = os.lseek(fd, 0, os.SEEK_END) // SIZE
    numbers = iter(range(1, sys.maxsize))
    lock = threading.Lock()
    failed = []

    def places(thread):
        if every:
            yield from range(thread * every, blocks, THREADS * every)
            return
        chance = random.Random(thread)
        while not failed:
            yield chance.randrange(blocks)

    def run(thread):
        page = mmap.mmap(-1, SIZE)
        try:
            for block in places(thread):
                with lock:
                    number = next(numbers)
                page[:64] = f"{word} {number}".encode().ljust(64, b"\0")
                os.pwritev(fd, [page], block * SIZE)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"   {word}: {next(numbers) - 1} writes", f"until {failed[0]}" if failed else "", flush=True)
    return bool(failed)


def judge(before, after, old, new, every):
    with open(before, "rb") as first, open(after, "rb") as second:
        wrong = []
        was_old = number = 0
        while True:
            was, now = first.read(SIZE), second.read(SIZE)
            if not was and not now:
                break
            was_old += stamp(was).startswith(old)
            good = stamp(now).startswith(new) if number % every == 0 else was == now
            if not good:
                wrong.append(f"block {number} held {stamp(was)!r} and now holds {stamp(now)!r}")
            number += 1
    print(f"   {number} blocks, {was_old} had been written by {old}, {len(wrong)} are wrong", *wrong[:5], sep="\n   ")
    # A medium on which the old owner never wrote proves nothing.
    return bool(wrong) or was_old < number // 16


if sys.argv[1] == "write":
    sys.exit(write(sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 0))
sys.exit(judge(*sys.argv[2:6], int(sys.argv[6])))
