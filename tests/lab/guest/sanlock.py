"""What sanlock's own command line cannot say, over its daemon's socket.

  sanlock.py init SPACE 0 PATH OFFSET IO_TIMEOUT       write_lockspace
  sanlock.py join SPACE HOST PATH OFFSET IO_TIMEOUT    add_lockspace with an io_timeout of its own
  sanlock.py leave SPACE HOST PATH OFFSET              rem_lockspace
  sanlock.py lvb-set SPACE RESOURCE PATH OFFSET FILE   acquire, leave the file's bytes in the lock value block, release
  sanlock.py lvb-get SPACE RESOURCE PATH OFFSET FILE   acquire, write the lock value block to the file, release

Prints the daemon's result and ends with 1 if it is an error.
"""

import os
import socket
import struct
import sys

MAGIC, VERSION = 0x04282010, 1
REGISTER, ADD_LOCKSPACE, REM_LOCKSPACE, ACQUIRE, RELEASE, WRITE_LOCKSPACE, SET_LVB, GET_LVB = 1, 2, 3, 7, 8, 18, 25, 26
LVB = 1
HEADER = struct.Struct("<IIIIIIii")

daemon = socket.socket(socket.AF_UNIX)
daemon.connect(os.environ.get("SANLOCK_RUN_DIR", "/run/sanlock") + "/sanlock.sock")


def say(command, body=b"", flags=0, data=0, data2=0):
    daemon.sendall(HEADER.pack(MAGIC, VERSION, command, flags, HEADER.size + len(body), 0, data, data2) + body)


def take(count):
    got = b""
    while len(got) < count:
        more = daemon.recv(count - len(got))
        if not more:
            sys.exit("the daemon hung up")
        got += more
    return got


def hear(what):
    length, _, result, _ = HEADER.unpack(take(HEADER.size))[4:]
    print(what, result)
    if result < 0:
        sys.exit(1)
    return length - HEADER.size


def name(text):
    return text.encode().ljust(48, b"\0")


def disk(path, offset):
    return struct.pack("<1024sQII", path.encode(), int(offset), 0, 0)


verb, space, what, path, offset = sys.argv[1:6]
if verb in ("init", "join", "leave"):
    body = struct.pack("<48sQII", name(space), int(what), 0, 0) + disk(path, offset)
    if verb == "init":
        say(WRITE_LOCKSPACE, body, data2=int(sys.argv[6]))
    elif verb == "join":
        say(ADD_LOCKSPACE, body, data=int(sys.argv[6]))
    else:
        say(REM_LOCKSPACE, body)
    hear(verb)
else:
    resource = struct.pack("<48s48sQQIIII", name(space), name(what), 0, 0, 0, 0, 0, 1)
    options = bytes(56)
    say(REGISTER)
    say(ACQUIRE, resource + disk(path, offset) + options, flags=LVB, data=1, data2=-1)
    hear("acquire")
    if verb == "lvb-set":
        with open(sys.argv[6], "rb") as file:
            say(SET_LVB, resource + file.read())
        hear("set_lvb")
    else:
        say(GET_LVB, resource)
        length = hear("get_lvb")
        with open(sys.argv[6], "wb") as file:
            file.write(take(length))
    say(RELEASE, resource, data=1, data2=-1)
    hear("release")
