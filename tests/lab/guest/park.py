"""A disk that keeps a chosen write back: `park.py DEVICE MIB CONTROL`.

A block device in memory (the kernel's nbd over a socket pair). A write whose data begin with `PARK` is parked the
first time its first 16 bytes are seen; the same bytes again (a retry) pass, and so does everything else. Parked means:
it is not answered and the medium is unchanged until the file CONTROL/release appears; then it is executed, as a
backend does that was slow. Files in CONTROL:

  parked     made when a write is parked        release   make it to end the park; it is removed
  released   made when the write is executed    stall     while it exists, no request is answered
  journal    every write that carries a stamp, in the order of execution: uptime, byte offset, stamp
"""

import fcntl
import os
import socket
import struct
import sys
import threading
import time

NBD_SET_SOCK, NBD_SET_BLKSIZE, NBD_DO_IT, NBD_SET_SIZE_BLOCKS, NBD_SET_FLAGS = 0xAB00, 0xAB01, 0xAB03, 0xAB07, 0xAB0A
NBD_FLAG_HAS_FLAGS, NBD_FLAG_SEND_FLUSH = 1, 4
REQUEST, REPLY = 0x25609513, 0x67446698
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
STAMP, NUL = 16, b"\0"

device, mib, control = sys.argv[1], int(sys.argv[2]), sys.argv[3]
medium = bytearray(mib << 20)
ours, kernels = socket.socketpair()
replying = threading.Lock()
parked_once = set()


def path(name):
    return os.path.join(control, name)


def touch(name, text=""):
    with open(path(name), "w") as file:
        file.write(text)


def await_file(name):
    while not os.path.exists(path(name)):
        time.sleep(0.01)


def take(count):
    data = bytearray()
    while len(data) < count:
        piece = ours.recv(count - len(data))
        if not piece:
            sys.exit()
        data += piece
    return bytes(data)


def reply(handle, data=b""):
    with replying:
        ours.sendall(struct.pack(">II8s", REPLY, 0, handle) + data)


def execute(handle, offset, data):
    medium[offset : offset + len(data)] = data
    if data[:4] in (b"PARK", b"OLD-", b"NEWE"):
        with open(path("journal"), "a") as journal:
            uptime = open("/proc/uptime").read().split()[0]
            journal.write(f"{uptime} {offset} {data[:STAMP].rstrip(NUL).decode('ascii', 'replace')}\n")
    reply(handle)


def park(handle, offset, data):
    touch("parked", str(offset))
    await_file("release")
    os.unlink(path("release"))
    execute(handle, offset, data)
    touch("released")


def serve():
    while True:
        magic, kind, handle, offset, count = struct.unpack(">II8sQI", take(28))
        assert magic == REQUEST
        data = take(count) if kind & 0xFFFF == WRITE else b""
        while os.path.exists(path("stall")):
            time.sleep(0.01)
        match kind & 0xFFFF:
            case 0:
                reply(handle, bytes(medium[offset : offset + count]))
            case 1:
                stamp = data[:STAMP]
                if stamp.startswith(b"PARK") and stamp not in parked_once:
                    parked_once.add(stamp)
                    threading.Thread(target=park, args=(handle, offset, data), daemon=True).start()
                else:
                    execute(handle, offset, data)
            case 2:
                sys.exit()
            case _:
                reply(handle)


os.makedirs(control, exist_ok=True)
fd = os.open(device, os.O_RDWR)
fcntl.ioctl(fd, NBD_SET_BLKSIZE, 512)
fcntl.ioctl(fd, NBD_SET_SIZE_BLOCKS, len(medium) // 512)
fcntl.ioctl(fd, NBD_SET_FLAGS, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH)
fcntl.ioctl(fd, NBD_SET_SOCK, kernels.fileno())
threading.Thread(target=serve, daemon=True).start()
fcntl.ioctl(fd, NBD_DO_IT)
