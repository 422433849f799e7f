"""bench-leases.py alone|crowd RESOURCE PID ROUNDS TIMES: takes and gives back a lease by the command line of either program, in turns.

Each time is that of one command, from its start to its end: a process, a message to the daemon and what that does on the
medium. `status` asks the daemon for what needs no medium, so that its time shows the process and the message alone.

crowd: eight daemons of one kind at a time, of which all want the lease; those after the first have the numbers 3 to 9 (see
bench-leases.sh). An acquisition lasts from the first attempt to the one that succeeds.
"""

import json
import os
import subprocess
import sys
import threading
import time

what, place, pid, rounds, times = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
THEIRS = "LS:RA:" + place
# Between two attempts at a lease that somebody has, and the longest wait for one.
AGAIN, PATIENCE = 0.01, 120


def commands(stack, process):
    if stack == "sanlock":
        verb = lambda word, mode: ["sanlock", "client", word, "-r", THEIRS + mode, "-p", process]
        return {
            "status": ["sanlock", "client", "status"],
            "acquire": verb("acquire", ""),
            "release": verb("release", ""),
            "acquire shared": verb("acquire", ":SH"),
            "release shared": verb("release", ":SH"),
        }
    ours = ["sanblk", "lease"]
    return {
        "status": [*ours, "status"],
        "acquire": [*ours, "acquire", place, "--mode", "exclusive"],
        "release": [*ours, "release", place],
        "acquire shared": [*ours, "acquire", place, "--mode", "shared"],
        "release shared": [*ours, "release", place],
    }


def run(command, environment=None):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=environment)


def milliseconds(command, environment=None, until=False):
    """Of one command; `until`: of all attempts until it succeeds."""
    began = time.monotonic()
    while True:
        ended = run(command, environment)
        took = time.monotonic() - began
        if ended.returncode == 0:
            return took * 1000
        if not until or took > PATIENCE:
            print(ended.stdout.decode(), command)
            os._exit(1)
        time.sleep(AGAIN)


def tell(stack, row, number, all_of_them):
    median = sorted(all_of_them)[len(all_of_them) // 2]
    figures = {"stack": stack, "row": row, "round": number + 1, "ms": median, "worst_ms": max(all_of_them)}
    print("@row", json.dumps(figures), flush=True)


def turns(number):
    stacks = ["sanlock", "sanblk"]
    return stacks[::-1] if number % 2 else stacks


def alone(number):
    stacks = turns(number)
    took = {(stack, row): [] for stack in stacks for row in commands(stack, pid)}
    for _ in range(times):
        for stack in stacks:
            for row, command in commands(stack, pid).items():
                took[stack, row].append(milliseconds(command))
    for (stack, row), all_of_them in took.items():
        tell(stack, row, number, all_of_them)


def host(stack, index, took, start):
    environment = dict(os.environ)
    with open(f"/tmp/holder-{index}.pid") as file:
        process = file.read().strip()
    if index > 1:
        environment["SANLOCK_RUN_DIR"] = f"/run/sanlock-{index}"
        environment["SANBLK_ROOT"] = f"/tmp/south-{index}"
    verbs = commands(stack, process)
    start.wait()
    for _ in range(times):
        took["acquire, 8 hosts"].append(milliseconds(verbs["acquire"], environment, until=True))
        took["release, 8 hosts"].append(milliseconds(verbs["release"], environment))


def crowd(number):
    for stack in turns(number):
        took = {"acquire, 8 hosts": [], "release, 8 hosts": []}
        start = threading.Barrier(8)
        hosts = [threading.Thread(target=host, args=(stack, index, took, start)) for index in (1, *range(3, 10))]
        for thread in hosts:
            thread.start()
        for thread in hosts:
            thread.join()
        for row, all_of_them in took.items():
            tell(stack, row, number, all_of_them)


for number in range(rounds):
    alone(number) if what == "alone" else crowd(number)
