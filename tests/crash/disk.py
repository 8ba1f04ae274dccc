"""What a disk may hold after a power cut, rebuilt from the journals of tests/preload/journal.c.

    events = read_journals([path, ...], directory)      # one journal a process, in order
    disk = Disk(directory)
    disk.play(events[:n])
    disk.image(target, mode, rng)                        # mode "synced", "all" or "some"

The model is the strict reading of POSIX.  A file's bytes and length are durable once a sync of that file that began
after them has returned; its name once the directory was synced.  Of what is not durable, a cut keeps for every block of
4 KB some prefix of its changes, for the length likewise, and for the names a prefix of all changes of names, as a file
system with a journal does.  `synced` keeps none of it, `all` everything (that is a crash of the process), `some` a random
part.  The wal-index (-shm) is never kept: SQLite builds it anew.
"""
import collections
import os
import re
import struct

OPEN, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, ANSWER = range(1, 8)
BLOCK = 4096
_HEAD = struct.Struct("<IiQQI")
_RID = re.compile(rb"\r\nX-Request-Id: *([^\r\n]*)", re.I)

# number: of the record in its process, from 1; handle: (process, number of the open)
Event = collections.namedtuple("Event", "kind process number handle a b data")


def read_journals(paths):
    events = []
    for process, path in enumerate(paths):
        with open(path, "rb") as f:
            data = f.read()
        at = number = 0
        while at + _HEAD.size <= len(data):
            kind, handle, a, b, n = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            if at + n > len(data):
                break                           # killed in the middle of a record
            number += 1
            events.append(Event(kind, process, number, (process, handle), a, b, data[at:at + n]))
            at += n
    return events


def request_id(event):
    m = _RID.search(event.data)
    return m[1].decode("latin-1").strip() if m else None


class _File:
    def __init__(self):
        self.base = bytearray()     # durable
        self.pending = []           # (process, number, offset, data) or (process, number, size, None)

    def settle(self, process, number, ignore):
        """A sync: what was asked of the file up to that record is durable now."""
        if ignore:
            return
        rest = []
        for op in self.pending:
            if op[0] < process or op[1] <= number:
                self._apply(self.base, op)
            else:
                rest.append(op)
        self.pending = rest

    @staticmethod
    def _apply(base, op):
        _, _, at, data = op
        if data is None:
            if at <= len(base):
                del base[at:]
            else:
                base.extend(bytes(at - len(base)))
            return
        if at > len(base):
            base.extend(bytes(at - len(base)))
        base[at:at + len(data)] = data

    def content(self, mode, rng):
        if mode == "synced" or not self.pending:
            return bytes(self.base)
        out = bytearray(self.base)
        if mode == "all":
            for op in self.pending:
                self._apply(out, op)
            return bytes(out)
        n, kept = len(self.pending), {}
        size_kept, size, small = rng.randrange(n + 1), len(self.base), None
        for i, (_, _, at, data) in enumerate(self.pending):
            end = at if data is None else at + len(data)
            if i < size_kept:
                size = end if data is None else max(size, end)
            if data is None:                    # blocks past the new end become zeros, each if its turn had come
                for block in range(at // BLOCK, (len(out) + BLOCK - 1) // BLOCK):
                    if i < kept.setdefault(block, rng.randrange(n + 1)):
                        low, high = max(at, block * BLOCK), min(len(out), (block + 1) * BLOCK)
                        out[low:high] = bytes(max(0, high - low))
                continue
            if end > len(out):
                out.extend(bytes(end - len(out)))
            for block in range(at // BLOCK, (end - 1) // BLOCK + 1 if data else 0):
                if i < kept.setdefault(block, rng.randrange(n + 1)):
                    low, high = max(at, block * BLOCK), min(end, (block + 1) * BLOCK)
                    out[low:high] = data[low - at:high - at]
        del out[size:]
        out.extend(bytes(size - len(out)))
        return bytes(out)


class Disk:
    """`ignore_syncs`: a disk that lies, for proving that the test can fail."""

    def __init__(self, directory, ignore_syncs=False):
        self.directory, self.ignore = directory, ignore_syncs
        self.now, self.durable = {}, {}         # name -> _File: as the process sees it, as it is on disk
        self.names = []                         # changes not durable yet: (process, number, name, _File or None)
        self.open = {}                          # handle -> _File, or None: the directory
        self.syncs = self.writes = 0

    def _name(self, path):
        return os.path.relpath(path.decode(), self.directory)

    def _rename(self, e, name, file):
        if file is None:
            self.now.pop(name, None)
        else:
            self.now[name] = file
        self.names.append((e.process, e.number, name, file))

    def play(self, events):
        for e in events:
            if e.kind == OPEN:
                self._open(e)
            elif e.kind == WRITE:
                self.writes += 1
                self.open[e.handle].pending.append((e.process, e.number, e.a, e.data))
            elif e.kind == TRUNCATE:
                self.open[e.handle].pending.append((e.process, e.number, e.a, None))
            elif e.kind == SYNC:
                self.syncs += 1
                self._sync(e)
            elif e.kind == UNLINK:
                self._rename(e, self._name(e.data), None)
            elif e.kind == RENAME:
                old, new = e.data.split(b"\0")
                file = self.now.get(self._name(old))
                if file:
                    self._rename(e, self._name(new), file)
                    self._rename(e, self._name(old), None)

    def _open(self, e):
        name = self._name(e.data)
        if name == ".":
            self.open[e.handle] = None
            return
        if name not in self.now:
            self._rename(e, name, _File())
        file = self.open[e.handle] = self.now[name]
        if e.a & os.O_TRUNC:
            file.pending.append((e.process, e.number, 0, None))

    def _sync(self, e):
        file = self.open[e.handle]
        if file is not None:
            file.settle(e.process, e.a, self.ignore)
            return
        rest = []
        for op in self.names:
            if op[0] < e.process or op[1] <= e.a:
                self._apply_name(self.durable, op)
            else:
                rest.append(op)
        self.names = rest

    @staticmethod
    def _apply_name(names, op):
        if op[3] is None:
            names.pop(op[2], None)
        else:
            names[op[2]] = op[3]

    def image(self, target, mode, rng):
        """Writes the files into the empty directory `target`; {name: bytes}."""
        names = dict(self.durable)
        kept = {"synced": 0, "all": len(self.names), "some": rng.randrange(len(self.names) + 1)}[mode]
        for op in self.names[:kept]:
            self._apply_name(names, op)
        sizes = {}
        for name, file in names.items():
            if name.endswith("-shm"):
                continue
            data = file.content(mode, rng)
            sizes[name] = len(data)
            with open(os.open(os.path.join(target, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
                f.write(data)
        return sizes
