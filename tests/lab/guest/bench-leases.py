"""bench-leases.py alone|command|crowd PLACE ROUNDS TIMES|SECONDS [PROCESS]: takes and gives back lease RA of LS with either program, in turns.

alone: as lvmlockd asks: one client that stays connected, over sanlock's socket, which both daemons serve. `version` is what
    the daemon answers from its memory, so that its time shows the message alone.
command: by the command line of either. Each time is that of one command, from its start to its end. `status` needs no medium,
    so that its time shows the process and the message alone.
crowd: eight daemons of one kind at a time, each with such a client that wants the lease, again and again, for so many seconds.
    An acquisition lasts from the first attempt to the one that succeeds; it is given back at once. About 10 ms between two
    attempts, and before the next acquisition.

sanlock number N is at /run/north-N, sanblk at /run/south-N (see bench-leases.sh).
"""

import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time

what, place, rounds, much = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
path, offset = place.rsplit(":", 1)
STACKS = {"sanlock": "north", "sanblk": "south"}
# Between two attempts at a lease that somebody has, give or take half of it.
AGAIN = 0.01

MAGIC, REGISTER, ACQUIRE, RELEASE, VERSION = 0x04282010, 1, 7, 8, 28
SHARED = 4
HEADER = struct.Struct("<IIIIIIii")


class Client:
    def __init__(self, stack, index):
        self.daemon = socket.socket(socket.AF_UNIX)
        self.daemon.connect(f"/run/{STACKS[stack]}-{index}/sanlock.sock")
        # It has no answer.
        self.say(REGISTER)

    def say(self, command, body=b"", data=0, data2=0):
        self.daemon.sendall(HEADER.pack(MAGIC, 1, command, 0, HEADER.size + len(body), 0, data, data2) + body)

    def take(self, count):
        got = b""
        while len(got) < count:
            more = self.daemon.recv(count - len(got))
            if not more:
                stop("the daemon hung up")
            got += more
        return got

    def ask(self, *question):
        """The result: 0, or an error as a number below it."""
        self.say(*question)
        length, _, result, _ = HEADER.unpack(self.take(HEADER.size))[4:]
        self.take(length - HEADER.size)
        return result

    def version(self):
        self.ask(VERSION)
        return 0

    def acquire(self, flags=0):
        disk = struct.pack("<1024sQII", path.encode(), int(offset), 0, 0)
        return self.ask(ACQUIRE, resource(flags) + disk + bytes(56), 1, -1)

    def release(self):
        return self.ask(RELEASE, resource(0), 1, -1)


def resource(flags):
    return struct.pack("<48s48sQQIIII", b"LS", b"RA", 0, 0, 0, 0, flags, 1)


def stop(why):
    print(why, flush=True)
    os._exit(1)


def milliseconds(action, *arguments):
    began = time.monotonic()
    result = action(*arguments)
    took = (time.monotonic() - began) * 1000
    if result != 0:
        stop(f"{action.__name__} {arguments}: {result}")
    return took


def command(words, environment):
    ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=environment)
    if ended.returncode != 0:
        print(ended.stdout.decode(), flush=True)
    return ended.returncode


def median(values):
    return sorted(values)[len(values) // 2]


def tell(stack, row, number, times, **more):
    figures = {"stack": stack, "row": row, "round": number + 1, "ms": median(times), "worst_ms": max(times), **more}
    print("@row", json.dumps(figures), flush=True)


def turns(number):
    stacks = list(STACKS)
    return stacks[::-1] if number % 2 else stacks


def alone():
    """What is measured, in this order, for each program."""
    rows = {}
    for stack in STACKS:
        client = Client(stack, 1)
        rows[stack] = {
            "version": (client.version,),
            "acquire": (client.acquire,),
            "release": (client.release,),
            "acquire shared": (client.acquire, SHARED),
            "release shared": (client.release,),
        }
    return rows


def by_command(process):
    theirs = lambda verb, mode: ["sanlock", "client", verb, "-r", f"LS:RA:{place}{mode}", "-p", process]
    ours = lambda verb, *mode: ["sanblk", "lease", verb, place, *mode]
    words = {
        "sanlock": {
            "status": ["sanlock", "client", "status"],
            "acquire": theirs("acquire", ""),
            "release": theirs("release", ""),
            "acquire shared": theirs("acquire", ":SH"),
            "release shared": theirs("release", ":SH"),
        },
        "sanblk": {
            "status": ["sanblk", "lease", "status"],
            "acquire": ours("acquire", "--mode", "exclusive"),
            "release": ours("release"),
            "acquire shared": ours("acquire", "--mode", "shared"),
            "release shared": ours("release"),
        },
    }
    where = {**os.environ, "SANLOCK_RUN_DIR": "/run/north-1", "SANBLK_ROOT": "/tmp/south-1"}
    return {stack: {"command: " + row: (command, said, where) for row, said in rows.items()} for stack, rows in words.items()}


def in_turns(rows, number):
    stacks = turns(number)
    took = {(stack, row): [] for stack in stacks for row in rows[stack]}
    for _ in range(much):
        for stack in stacks:
            for row, action in rows[stack].items():
                took[stack, row].append(milliseconds(*action))
    for (stack, row), times in took.items():
        tell(stack, row, number, times, count=len(times))


class Host:
    """One of eight that want the lease."""

    def __init__(self, stack, index, number):
        self.client = Client(stack, index)
        self.random = random.Random(100 * number + index)
        self.acquired, self.released, self.tries = [], [], 0

    def rest(self):
        time.sleep(AGAIN * self.random.uniform(0.5, 1.5))

    def contend(self, start):
        start.wait()
        end = time.monotonic() + much
        while time.monotonic() < end:
            began = time.monotonic()
            while True:
                self.tries += 1
                if self.client.acquire() == 0:
                    break
                if time.monotonic() - began > 60:
                    stop("a lease was never free")
                self.rest()
            self.acquired.append((time.monotonic() - began) * 1000)
            self.released.append(milliseconds(self.client.release))
            self.rest()


def crowd(number):
    for stack in turns(number):
        start = threading.Barrier(8)
        hosts = [Host(stack, index, number) for index in range(1, 9)]
        threads = [threading.Thread(target=host.contend, args=(start,)) for host in hosts]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began
        counts = [len(host.acquired) for host in hosts]
        acquired = [took for host in hosts for took in host.acquired]
        released = [took for host in hosts for took in host.released]
        tell(stack, "8 hosts", number, acquired, mean_ms=sum(acquired) / len(acquired), release_ms=median(released), per_second=len(acquired) / seconds,
             tries=sum(host.tries for host in hosts) / len(acquired), fewest=min(counts), most=max(counts))


rows = alone() if what == "alone" else by_command(sys.argv[5]) if what == "command" else None
for number in range(rounds):
    in_turns(rows, number) if rows else crowd(number)
