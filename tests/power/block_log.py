"""A disk as a power cut leaves it, from a log of all that was written to it.

In:  a log in dm-log-writes' format, as qemu's `blklogwrites` writes it. Out: the disk at any moment of it.
What was flushed before the cut is there; of what was written after that, each sector may be there or not.
"""

import random
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

MAGIC, VERSION = 0x6A736677736872, 1
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
ENTRY = struct.Struct("<QQQQ")


class Entry(NamedTuple):
    sector: int
    sectors: int
    flags: int
    data: int
    """Where its data begins in the log, in bytes."""
    end: int
    """Where it ends in the log, in bytes: it was complete once the log was this long."""


class Log:
    def __init__(self, path: Path):
        self.path = path
        self.entries = []
        with open(path, "rb") as file:
            magic, version, _, self.sector = struct.unpack("<QQQI", file.read(28))
            if (magic, version) != (MAGIC, VERSION):
                raise ValueError(f"{path} is no log of writes")
            at = self.sector
            # The count in the first sector is written now and then only: an entry of nothing is the end.
            while True:
                file.seek(at)
                head = file.read(ENTRY.size)
                if len(head) < ENTRY.size or not any(head):
                    break
                sector, sectors, flags, _ = ENTRY.unpack(head)
                data = at + self.sector
                at = data if flags & (DISCARD | MARK) else data + sectors * self.sector
                self.entries.append(Entry(sector, sectors, flags, data, at))

    def cut(self, before: Path, end: int, chance: random.Random, disk: Path) -> int:
        """Makes `disk` of `before` and the first `end` entries; returns how many writes were lost in part or whole."""
        flushed = max((n + 1 for n in range(end) if self.entries[n].flags & FLUSH), default=0)
        # A disk has gigabytes of nothing.
        subprocess.run(["cp", "--sparse=always", before, disk], check=True)
        lost = 0
        with open(self.path, "rb") as log, open(disk, "r+b") as out:
            for n, entry in enumerate(self.entries[:end]):
                if entry.flags & (DISCARD | MARK) or not entry.sectors:
                    continue
                log.seek(entry.data)
                data = log.read(entry.sectors * self.sector)
                kept = range(entry.sectors)
                if n >= flushed and not entry.flags & FUA:
                    # All of it, nothing, or some sectors.
                    share = chance.choice((0, 1, chance.random()))
                    kept = [sector for sector in kept if chance.random() < share]
                    lost += len(kept) < entry.sectors
                if len(kept) == entry.sectors:
                    out.seek(entry.sector * self.sector)
                    out.write(data)
                else:
                    for sector in kept:
                        out.seek((entry.sector + sector) * self.sector)
                        out.write(data[sector * self.sector : (sector + 1) * self.sector])
        return lost
