"""Random cuts and returns of two links: `cuts.py DISK COUNT SEED LIO-BACKSTORE`.

Runs beside verified IO. Each round loses packets on one VLAN (to the array, from it, or both), waits a random moment,
lets them pass, and waits until `sanblk status` shows every path up; now and then the next cut does not wait for that,
and may hit the other link too. Whenever it has the choice it cuts in the middle of something: right after a path is
lost, during its login, right after its return.

Meanwhile it is an application itself: a few blocks are written with a growing number and read back, each answer checked
at once. A read must return the number of the last write that was answered: nothing older, nothing else.

Prints the seed first and a summary line every 50 cuts; fails when a number is wrong or an IO fails.
"""

import json
import mmap
import os
import random
import socket
import subprocess
import sys
import threading
import time

disk, count, seed, backstore = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
SIZE, WORKERS, FIRST_BLOCK = 4096, 4, 100_000
choose = random.Random(seed)
started = time.monotonic()
errors = []
numbers = [0] * WORKERS
slowest = [0.0] * WORKERS
stopping = threading.Event()
array = os.open("/run/netns/tgt", os.O_RDONLY)
version = subprocess.run(["sanblk", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]


def say(text):
    print(f"{text}", flush=True)


def application(worker):
    """Writes 1, 2, 3, ... to one block and reads each back."""
    fd = os.open(disk, os.O_RDWR | os.O_DIRECT)
    page = mmap.mmap(-1, SIZE)
    offset = (FIRST_BLOCK + worker) * SIZE
    try:
        while not stopping.is_set():
            number = numbers[worker] + 1
            wanted = b"worker %d number %d " % (worker, number) * 64
            begin = time.monotonic()
            page[: len(wanted)] = wanted
            os.pwritev(fd, [page], offset)
            middle = time.monotonic()
            page[:] = bytes(SIZE)
            os.preadv(fd, [page], offset)
            end = time.monotonic()
            if page[: len(wanted)] != wanted:
                errors.append(f"worker {worker}: wrote number {number}, read {bytes(page[:40])!r}")
                return
            numbers[worker] = number
            # An application thinks; and the emulated cores are for the cuts.
            time.sleep(0.01)
            slowest[worker] = max(slowest[worker], middle - begin, end - middle)
    except OSError as error:
        errors.append(f"worker {worker}: {error}")


def nft(netns, text):
    enter = (lambda: os.setns(array, os.CLONE_NEWNET)) if netns else None
    subprocess.run(["nft", text], check=True, preexec_fn=enter)


def drop(vlan, direction):
    """At the earliest hook of the end that receives; `in` is towards the host."""
    for way, netns, device in (("out", True, f"tsan{vlan}"), ("in", False, f"san{vlan}")):
        if direction in (way, "both"):
            chain = f"{{ type filter hook ingress device {device} priority 0; policy drop; }}"
            nft(netns, f"add table netdev lab_cut{vlan}; add chain netdev lab_cut{vlan} in {chain}")


def passes(vlan, direction):
    for way, netns in (("out", True), ("in", False)):
        if direction in (way, "both"):
            nft(netns, f"delete table netdev lab_cut{vlan}")


def paths():
    """The paths of `sanblk status --json` by VLAN, asked of the daemon itself: a process each time costs a tenth of a second."""
    envelope = {"protocol": 1, "version": version, "request": {"verb": "status", "volume": None}}
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.settimeout(60)
        daemon.connect("/run/sanblk/control.sock")
        daemon.sendall(json.dumps(envelope).encode() + b"\n")
        for line in daemon.makefile():
            answer = json.loads(line)
            if answer["line"] == "done":
                volumes = answer["reply"]["with"]["volumes"]
                return {path["portal"].split(".")[2]: path for volume in volumes for path in volume["paths"]}
            if answer["line"] == "failed":
                raise SystemExit(f"the daemon refuses: {answer}")
    raise SystemExit("the daemon hung up")


def until(condition, limit):
    """Whether the paths got there; asks as fast as the daemon answers."""
    end = time.monotonic() + limit
    while not errors and time.monotonic() < end:
        if condition(paths()):
            return True
        time.sleep(0.02)
    return False


def all_up(now):
    return len(now) == 2 and all(path["state"] == "up" for path in now.values())


class Tally:
    def __init__(self):
        self.cuts = {"in": 0, "out": 0, "both": 0}
        self.overlapping = self.seen = 0
        self.losses = sum(path["losses"] for path in paths().values())

    def line(self, done):
        losses = sum(path["losses"] for path in paths().values())
        cuts = ", ".join(f"{n} {way}" for way, n in self.cuts.items())
        return (
            f"cuts {done} of {count} ({cuts}; {self.overlapping} overlapping), paths lost {losses - self.losses} times, "
            f"{sum(numbers)} numbered writes checked, slowest answer {max(slowest):.2f} s, "
            f"errors {len(errors)}, {(time.monotonic() - started) / max(done, 1):.2f} s a cut"
        )


def one_cut(tally):
    """One cut and return, or two that overlap; how many it was."""
    vlan, direction = choose.choice("56"), choose.choice(("in", "out", "both"))
    before = paths()[vlan]["losses"]
    drop(vlan, direction)
    tally.cuts[direction] += 1
    cuts = 1
    if choose.random() < 0.05:
        other, also = "5" if vlan == "6" else "6", choose.choice(("in", "out", "both"))
        time.sleep(choose.random() * 0.5)
        drop(other, also)
        tally.cuts[also] += 1
        tally.overlapping += 1
        time.sleep(choose.random() * 0.5)
        passes(other, also)
        cuts = 2
    match choose.randrange(4):
        case 0:  # shorter than anybody notices, or just not
            time.sleep(choose.random() * 0.2)
        case 1:  # in the middle of the fence
            until(lambda now: now[vlan]["losses"] > before, 15)
        case _:
            until(lambda now: now[vlan]["losses"] > before, 15)
            time.sleep(choose.random() * 0.4)
    passes(vlan, direction)
    # One in ten does not wait: the next cut meets paths that are on their way back.
    if choose.random() < 0.9 and not until(all_up, 60) and not errors:
        errors.append("a path did not come back within 60 s")
    return cuts


def main():
    say(f"seed {seed}, {count} cuts, backstore {backstore}")
    threads = [threading.Thread(target=application, args=(worker,)) for worker in range(WORKERS)]
    tally = Tally()
    for thread in threads:
        thread.start()
    done = told = 0
    while done < count and not errors:
        done += one_cut(tally)
        if done - told >= 50:
            told = done
            say(tally.line(done))
    if not errors and not until(all_up, 60):
        errors.append("the paths are not both up at the end")
    stopping.set()
    for thread in threads:
        thread.join()
    say(f"end, seed {seed}, {backstore}: {tally.line(done)}")
    for error in errors:
        say(f"ERROR {error}")
    sys.exit(bool(errors))


main()
