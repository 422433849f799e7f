"""bench-leases.py RESOURCE PID ROUNDS TIMES: takes and gives back a lease by the command line of either program, in turns.

Each time is that of one command, from its start to its end: a process, a message to the daemon and what that does on the
medium. `status` asks the daemon for what needs no medium, so that its time shows the process and the message alone.
"""

import json
import subprocess
import sys
import time

place, pid, rounds, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
THEIRS = "LS:RA:" + place
COMMANDS = {
    "sanlock": {
        "status": ["sanlock", "client", "status"],
        "acquire": ["sanlock", "client", "acquire", "-r", THEIRS, "-p", pid],
        "release": ["sanlock", "client", "release", "-r", THEIRS, "-p", pid],
        "acquire shared": ["sanlock", "client", "acquire", "-r", THEIRS + ":SH", "-p", pid],
        "release shared": ["sanlock", "client", "release", "-r", THEIRS + ":SH", "-p", pid],
    },
    "sanblk": {
        "status": ["sanblk", "lease", "status"],
        "acquire": ["sanblk", "lease", "acquire", place, "--mode", "exclusive"],
        "release": ["sanblk", "lease", "release", place],
        "acquire shared": ["sanblk", "lease", "acquire", place, "--mode", "shared"],
        "release shared": ["sanblk", "lease", "release", place],
    },
}


def milliseconds(command):
    began = time.monotonic()
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    took = (time.monotonic() - began) * 1000
    if ended.returncode != 0:
        print(ended.stdout.decode(), command)
        sys.exit(1)
    return took


for number in range(rounds):
    stacks = ["sanlock", "sanblk"]
    if number % 2:
        stacks.reverse()
    took = {(stack, row): [] for stack in stacks for row in COMMANDS[stack]}
    for _ in range(times):
        for stack in stacks:
            for row, command in COMMANDS[stack].items():
                took[stack, row].append(milliseconds(command))
    for (stack, row), all_of_them in took.items():
        median = sorted(all_of_them)[len(all_of_them) // 2]
        figures = {"stack": stack, "row": row, "round": number + 1, "ms": median, "worst_ms": max(all_of_them)}
        print("@row", json.dumps(figures), flush=True)
