"""An iSCSI target that does what a test wants of it: `scripted.py CONTROL [--reinstate wait|at-once|abort]
[--vendor NAME] PORTAL,GROUP...`.

One LUN of 64 MiB in memory behind every PORTAL (an address, port 3260), each in the target portal GROUP named. What a
real target does by chance it does on purpose: a write whose data begin with `PARK` is kept back the first time its 16
first bytes are seen, as park.py does it (files in CONTROL: parked, release, released, journal). What a login with a
living session's ISID does to the old session's commands:

  wait      its answer waits for them (LIO, SCST)
  at-once   answered at once; an ORDERED command waits for them, one task set for all (tgt)
  abort     they are aborted: a parked write will never be executed (CTL)

The same name and ISID in another portal group is another session (RFC 7143, 4.4.1 and 6.3.5).
Just enough of RFC 7143 and SBC for sanblk and open-iscsi: one connection per session, no digests, no CHAP.
"""

import argparse
import os
import socket
import struct
import threading
import time

BLOCK, BLOCKS = 512, (64 << 20) // 512
MAX_SEGMENT, MAX_BURST = 65536, 262144
TARGET = "iqn.2026-01.lab.sanblk:store1"
GOOD, CHECK_CONDITION = 0x00, 0x02
NOP_OUT, SCSI_COMMAND, TASK_REQUEST, LOGIN, TEXT, DATA_OUT, LOGOUT = 0, 1, 2, 3, 4, 5, 6
NOP_IN, SCSI_RESPONSE, TASK_RESPONSE, LOGIN_RESPONSE, TEXT_RESPONSE, DATA_IN, LOGOUT_RESPONSE, R2T = (
    0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31)
NO_TAG, NUL = 0xFFFFFFFF, b"\0"
ORDERED = 2

arguments = argparse.ArgumentParser()
arguments.add_argument("control")
arguments.add_argument("--reinstate", choices=["wait", "at-once", "abort"], default="wait")
arguments.add_argument("--vendor", default="SCRIPTED")
arguments.add_argument("portals", nargs="+")
options = arguments.parse_args()


def path(name):
    return os.path.join(options.control, name)


def touch(name, text=""):
    with open(path(name), "w") as file:
        file.write(text)


def uptime():
    return open("/proc/uptime").read().split()[0]


class Disk:
    """The medium and the one task set in front of it."""

    def __init__(self):
        self.medium = bytearray(BLOCK * BLOCKS)
        self.seen = set()
        self.running = []
        self.changed = threading.Condition()

    def write(self, task, offset, data):
        """Executes, or parks and executes later; False if the task was aborted before that."""
        stamp = bytes(data[:16])
        if stamp.startswith(b"PARK") and stamp not in self.seen:
            self.seen.add(stamp)
            touch("parked", str(offset))
            while not os.path.exists(path("release")):
                time.sleep(0.01)
            os.unlink(path("release"))
            if task.aborted:
                touch("released")
                return False
            self.execute(offset, data)
            touch("released")
        else:
            self.execute(offset, data)
        return True

    def execute(self, offset, data):
        self.medium[offset : offset + len(data)] = data
        if data[:4] in (b"PARK", b"OLD-", b"NEWE"):
            with open(path("journal"), "a") as journal:
                journal.write(f"{uptime()} {offset} {bytes(data[:16]).rstrip(NUL).decode('ascii', 'replace')}\n")

    def enter(self, task):
        """Adds a task; an ORDERED one waits for all that are older."""
        with self.changed:
            older = list(self.running)
            self.running.append(task)
            if task.ordered:
                self.changed.wait_for(lambda: not any(o in self.running and not o.aborted for o in older))

    def leave(self, task):
        with self.changed:
            self.running.remove(task)
            self.changed.notify_all()


class Task:
    def __init__(self, connection, ordered):
        self.connection, self.ordered, self.aborted = connection, ordered, False


disk = Disk()
sessions = {}
sessions_lock = threading.Lock()


def sense(key, asc, ascq):
    """Fixed format, with its length in front as a SCSI response carries it."""
    return bytes([0, 18, 0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0])


class Connection:
    def __init__(self, sock, group):
        self.sock, self.group = sock, group
        self.sending = threading.Lock()
        self.stat_sn, self.exp_cmd_sn = 1, 1
        self.key, self.discovery, self.unit_attention = None, False, True
        self.waiting = {}
        self.next_ttt = 1

    # --- the wire

    def take(self, count):
        data = bytearray()
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return bytes(data)

    def receive(self):
        header = self.take(48)
        length = int.from_bytes(header[5:8])
        self.take(header[4] * 4)
        data = self.take((length + 3) & ~3)[:length]
        return header, data

    def send(self, opcode, flags, itt, words, data=b"", byte2=0, byte3=0, lun=bytes(8), status=True):
        """`words`: bytes 20 to 47 without StatSN, ExpCmdSN and MaxCmdSN, which are put in at 24 to 35."""
        with self.sending:
            stat_sn = self.stat_sn if status is not None else 0
            if status:
                self.stat_sn += 1
            header = struct.pack(">BBBBB3s8sI", opcode, flags, byte2, byte3, 0, len(data).to_bytes(3), lun, itt)
            header += words[:4] + struct.pack(">III", stat_sn, self.exp_cmd_sn, self.exp_cmd_sn + 63) + words[4:]
            self.sock.sendall(header + data + bytes(-len(data) % 4))

    # --- login

    def login(self):
        while True:
            header, data = self.receive()
            if header[0] & 0x3F != LOGIN:
                raise ConnectionError
            itt, cmd_sn = struct.unpack(">I4xI", header[16:28])
            self.exp_cmd_sn = cmd_sn
            isid = header[8:14]
            keys = dict(pair.split("=", 1) for pair in data.decode().split("\0") if "=" in pair)
            stage, transit, next_stage = header[1] >> 2 & 3, header[1] >> 7, header[1] & 3
            answer = {}
            if "InitiatorName" in keys:
                self.name = keys["InitiatorName"]
                self.discovery = keys.get("SessionType") == "Discovery"
                answer["TargetPortalGroupTag"] = str(self.group)
            for name, value in keys.items():
                if name in ("HeaderDigest", "DataDigest", "AuthMethod"):
                    answer[name] = "None"
                elif name == "MaxRecvDataSegmentLength":
                    self.max_send = min(int(value), MAX_SEGMENT)
                    answer[name] = str(MAX_SEGMENT)
                elif name in ("MaxBurstLength", "FirstBurstLength"):
                    answer[name] = str(min(int(value), MAX_BURST if name[0] == "M" else MAX_SEGMENT))
                elif name in ("InitialR2T", "DataPDUInOrder", "DataSequenceInOrder"):
                    answer[name] = "Yes"
                elif name in ("MaxConnections", "MaxOutstandingR2T"):
                    answer[name] = "1"
                elif name in ("ErrorRecoveryLevel", "DefaultTime2Retain"):
                    answer[name] = "0"
                elif name in ("ImmediateData", "DefaultTime2Wait"):
                    answer[name] = value
                elif name not in ("InitiatorName", "InitiatorAlias", "TargetName", "SessionType"):
                    answer[name] = "NotUnderstood"
            last = transit and next_stage == 3
            tsih = 0
            if last and not self.discovery:
                self.reinstate((self.name, isid, self.group))
                tsih = 1
            text = "".join(f"{name}={value}\0" for name, value in answer.items()).encode()
            flags = (header[1] & 0x8F) if transit else (stage << 2)
            self.send(LOGIN_RESPONSE, flags, itt, bytes(16), text, lun=isid + struct.pack(">H", tsih))
            if last:
                return

    def reinstate(self, key):
        """Ends an older session of this nexus."""
        with sessions_lock:
            old = sessions.get(key)
            sessions[key] = self
            self.key = key
        if not old:
            return
        old.end()
        with disk.changed:
            tasks = [task for task in disk.running if task.connection is old]
            if options.reinstate == "abort":
                for task in tasks:
                    task.aborted = True
                disk.changed.notify_all()
            elif options.reinstate == "wait":
                disk.changed.wait_for(lambda: not any(task in disk.running for task in tasks))

    # --- commands

    def answer(self, itt, status, data=b"", residual=(0, 0), pdus=0):
        flag, count = residual
        words = struct.pack(">IIII", 0, pdus, 0, count)
        self.send(SCSI_RESPONSE, 0x80 | flag, itt, words, data, byte3=status)

    def command(self, header, data):
        lun, itt, expected = header[8:16], *struct.unpack(">II", header[16:24])
        cdb, read, write = header[32:48], header[1] & 0x40, header[1] & 0x20
        task = Task(self, header[1] & 7 == ORDERED)
        payload, r2ts = self.gather(itt, lun, expected, data) if write else (b"", 0)
        threading.Thread(target=self.run, args=(task, itt, lun, cdb, expected, read, payload, r2ts), daemon=True).start()

    def gather(self, itt, lun, expected, data):
        """The data of a write, immediate and then by R2T, and how many R2Ts it took."""
        payload, r2ts = bytearray(data), 0
        while len(payload) < expected:
            want = min(expected - len(payload), MAX_SEGMENT)
            ttt, self.next_ttt = self.next_ttt, self.next_ttt + 1
            self.send(R2T, 0x80, itt, struct.pack(">IIII", ttt, r2ts, len(payload), want), lun=lun, status=False)
            r2ts += 1
            end = len(payload) + want
            while len(payload) < end:
                other, piece = self.receive()
                if other[0] & 0x3F == DATA_OUT and struct.unpack(">I", other[16:20])[0] == itt:
                    payload += piece
                else:
                    self.handle(other, piece)
        return payload, r2ts

    def run(self, task, itt, lun, cdb, expected, read, payload, r2ts):
        disk.enter(task)
        try:
            status, data = self.execute(task, lun, cdb, payload)
        finally:
            disk.leave(task)
        if task.aborted or status is None:
            return
        try:
            if status != GOOD or not read:
                self.answer(itt, status, data, pdus=r2ts)
                return
            missing = expected - len(data)
            residual = (2, missing) if missing > 0 else (4, -missing) if missing < 0 else (0, 0)
            data = data[:expected]
            pdus = 0
            for start in range(0, len(data), self.max_send):
                piece = data[start : start + self.max_send]
                final = 0x80 if start + len(piece) == len(data) else 0
                words = struct.pack(">IIII", NO_TAG, pdus, start, 0)
                self.send(DATA_IN, final, itt, words, piece, lun=lun, status=None)
                pdus += 1
            self.answer(itt, GOOD, residual=residual, pdus=pdus)
        except OSError:
            pass

    def execute(self, task, lun, cdb, payload):
        """(status, data in or sense); status None: no answer ever."""
        op = cdb[0]
        if op == 0xA0:
            return GOOD, struct.pack(">I4x8s", 8, bytes(8))
        if lun != bytes(8) and op != 0x12:
            return CHECK_CONDITION, sense(5, 0x25, 0)
        if op == 0x12:
            return self.inquiry(lun, cdb)
        if self.unit_attention:
            self.unit_attention = False
            return CHECK_CONDITION, sense(6, 0x29, 7)
        if op in (0x28, 0x2A):
            lba, count = struct.unpack(">xxIxH", cdb[:9])
        elif op in (0x88, 0x8A):
            lba, count = struct.unpack(">xxQI", cdb[:14])
        else:
            lba = count = 0
        if lba + count > BLOCKS:
            return CHECK_CONDITION, sense(5, 0x21, 0)
        if op in (0x28, 0x88):
            return GOOD, bytes(disk.medium[lba * BLOCK : (lba + count) * BLOCK])
        if op in (0x2A, 0x8A):
            return (GOOD, b"") if disk.write(task, lba * BLOCK, payload) else (None, b"")
        if op in (0x00, 0x35, 0x91):
            return GOOD, b""
        if op == 0x25:
            return GOOD, struct.pack(">II", BLOCKS - 1, BLOCK)
        if op == 0x9E and cdb[1] & 0x1F == 0x10:
            return GOOD, struct.pack(">QI20x", BLOCKS - 1, BLOCK)
        if op in (0x1A, 0x5A) and cdb[2] & 0x3F in (0x08, 0x3F):
            page = bytes([0x08, 18]) + bytes(18)
            # DPOFUA: forced writes are honoured, as there is no cache.
            head = bytes([3 + len(page), 0, 0x10, 0]) if op == 0x1A else struct.pack(">HBB4x", 6 + len(page), 0, 0x10)
            return GOOD, head + page
        return CHECK_CONDITION, sense(5, 0x20 if op not in (0x1A, 0x5A) else 0x24, 0)

    def inquiry(self, lun, cdb):
        name = bytes.fromhex("60014055c21f7ed0000000000000cafe")
        here = 0x00 if lun == bytes(8) else 0x7F
        if not cdb[1] & 1:
            text = options.vendor.ljust(8)[:8] + "MEMORY".ljust(16) + "1   "
            return GOOD, bytes([here, 0, 6, 2, 91, 0, 0, 2]) + text.encode() + bytes(60)
        pages = {
            0x00: bytes([0x00, 0x80, 0x83]),
            0x80: b"scripted-1",
            0x83: bytes([0x01, 0x03, 0, len(name)]) + name,
        }
        if cdb[2] not in pages:
            return CHECK_CONDITION, sense(5, 0x24, 0)
        return GOOD, struct.pack(">BBH", here, cdb[2], len(pages[cdb[2]])) + pages[cdb[2]]

    # --- everything else

    def handle(self, header, data):
        opcode, immediate = header[0] & 0x3F, header[0] & 0x40
        itt = struct.unpack(">I", header[16:20])[0]
        if not immediate and opcode in (NOP_OUT, SCSI_COMMAND, TASK_REQUEST, TEXT, LOGOUT):
            self.exp_cmd_sn += 1
        if opcode == SCSI_COMMAND:
            self.command(header, data)
        elif opcode == NOP_OUT:
            if itt != NO_TAG:
                self.send(NOP_IN, 0x80, itt, struct.pack(">I12x", NO_TAG), data)
        elif opcode == TASK_REQUEST:
            # Nothing here can be taken back: "function not supported".
            self.send(TASK_RESPONSE, 0x80, itt, bytes(16), byte2=5)
        elif opcode == TEXT:
            portals = "".join(f"TargetAddress={p.split(',')[0]}:3260,{p.split(',')[1]}\0" for p in options.portals)
            self.send(TEXT_RESPONSE, 0x80, itt, struct.pack(">I12x", NO_TAG), f"TargetName={TARGET}\0{portals}".encode())
        elif opcode == LOGOUT:
            self.send(LOGOUT_RESPONSE, 0x80, itt, bytes(16))
            raise ConnectionError

    def serve(self):
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.login()
            while True:
                self.handle(*self.receive())
        except OSError:
            pass
        # What it had handed to the disk goes on; only another login of its nexus ends the session.
        self.end()

    def end(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def listen(portal):
    address, group = portal.split(",")
    server = socket.create_server((address, 3260))
    while True:
        sock, _ = server.accept()
        threading.Thread(target=Connection(sock, int(group)).serve, daemon=True).start()


os.makedirs(options.control, exist_ok=True)
for portal in options.portals:
    threading.Thread(target=listen, args=(portal,), daemon=True).start()
threading.Event().wait()
