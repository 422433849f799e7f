"""The application of the ghost-write scenarios: `overwrite.py DISK CONTROL WORD-ROUND BLOCK...`.

For every 4 KiB BLOCK, one after the other in steps of 20 ms: writes `WORD-ROUND-BLOCK`, and as soon as that is answered `NEWER-ROUND-BLOCK` over it.
Files in CONTROL: ready (made), go (waited for), answered (the first old write is), overwritten (all newer ones are). Afterwards, `overwrite.py DISK
check WORD-ROUND BLOCK...` reads every block and fails unless it holds the newer text.
"""

import mmap
import os
import sys
import threading
import time

SIZE = 4096
disk, control = sys.argv[1:3]
old, label = sys.argv[3].split("-")
blocks = [int(block) for block in sys.argv[4:]]
fd = os.open(disk, os.O_RDWR | os.O_DIRECT)
failed = []


def text(word, block):
    return f"{word}-{label}-{block}".encode()


def write(word, block):
    page = mmap.mmap(-1, SIZE)
    page.write(text(word, block))
    os.pwritev(fd, [page], block * SIZE)


def touch(name):
    open(os.path.join(control, name), "w").close()


def overwrite(block):
    try:
        start = time.monotonic()
        write(old, block)
        answered = time.monotonic()
        touch("answered")
        write("NEWER", block)
        done = time.monotonic()
        if len(blocks) < 8:
            print(f"   block {block}: old write answered after {answered - start:.2f} s, newer after {done - answered:.2f} s more", flush=True)
    except OSError as error:
        print(f"   block {block}: {error}", flush=True)
        failed.append(block)


if control == "check":
    page = mmap.mmap(-1, SIZE)
    for block in blocks:
        os.preadv(fd, [page], block * SIZE)
        found = page[:64].rstrip(b"\0").decode("ascii", "replace")
        if found != text("NEWER", block).decode():
            print(f"   block {block} holds {found!r}")
            failed.append(block)
else:
    threads = [threading.Thread(target=overwrite, args=(block,)) for block in blocks]
    touch("ready")
    while not os.path.exists(os.path.join(control, "go")):
        time.sleep(0.002)
    for thread in threads:
        thread.start()
        # A steady stream: whatever happens, happens in the middle of it.
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    touch("overwritten")
sys.exit(bool(failed))
