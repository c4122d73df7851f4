"""The port `Slots` on a block device: sectors (protocol/slots.py) read and written past the page cache.

The record is written through to the medium (O_DSYNC) before it is answered; a heartbeat need not outlive anything. All
questions to one disk are asked by one thread, one after the other, so that the copies of the record are written in
turn. A disk that hangs holds that thread: what is asked meanwhile is Silent at its deadline, and is not carried out
later.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from middlewared.kernel.facts import Node, PairRecord
from middlewared.kernel.register import Refused, Silent, Whose
from middlewared.protocol import slots
from middlewared.protocol.slots import SECTOR, SECTORS, Beat, Seal

T = TypeVar("T")

_REFUSALS = (errno.EPERM, errno.EACCES, errno.EROFS, errno.EBADE)
"""What a write is refused with: a read-only device, and (EBADE) a reservation conflict, see scsi_error.c."""


class DiskSlots:
    """One disk's slot area.

    name: for people. path: the device that holds the area and nothing else. deadline_s: for reads and heartbeats;
    durable_s: for the record. Until `use` has given the cluster's seal, every answer is Silent.
    """

    def __init__(self, name: str, path: str, *, deadline_s: float, durable_s: float) -> None:
        self._name = name
        self._area = _Area(path)
        self._deadline_s = deadline_s
        self._durable_s = durable_s
        self._seal: Seal | None = None
        self._thread = ThreadPoolExecutor(1, "slots")

    def use(self, seal: Seal) -> None:
        self._seal = seal

    async def write_record(self, record: PairRecord) -> Refused | Silent | None:
        return await self._ask(lambda seal: self._area.write_record(record, seal), self._durable_s)

    async def read_record(self) -> PairRecord | Silent | None:
        found = await self._ask(self._area.records, self._deadline_s)
        if isinstance(found, Silent):
            return found
        return Silent(f"{self._name}: {'; '.join(found.bad)}") if found.unreadable else found.record

    async def beat(self, node: Node, term: int, count: int) -> Refused | Silent | None:
        beat = Beat(term=term, count=count)
        return await self._ask(lambda seal: self._area.write_beat(node, beat, seal), self._deadline_s)

    async def read_beat(self) -> int | Silent:
        return await self._ask(self._area.beat, self._deadline_s)

    async def whose(self) -> Whose | Silent:
        return await self._ask(self._area.whose, self._deadline_s)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._area.close()

    async def _ask(self, question: Callable[[Seal], T], within_s: float) -> T | Silent:
        seal = self._seal
        if seal is None:
            return Silent(f"{self._name}: the key of the slots is not known yet")
        asked = self._thread.submit(question, seal)
        try:
            async with asyncio.timeout(within_s):
                return await asyncio.wrap_future(asked)
        except TimeoutError:
            return Silent(f"{self._name}: no answer within {within_s * 1000:.0f} ms")
        except OSError as e:
            return Silent(f"{self._name}: {e.strerror or e}")


class _Area:
    """The device, opened when it is first needed and again after an error. All calls block, and raise OSError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._files: dict[int, int] = {}
        self._buffer = mmap.mmap(-1, SECTORS * SECTOR)  # O_DIRECT wants it aligned

    def records(self, seal: Seal) -> slots.RecordSlots:
        sectors = self._read()
        return slots.read_records((sectors[0], sectors[1]), seal)

    def beat(self, seal: Seal) -> int:
        """The count of the heartbeat in the highest term; 0 where there is none."""
        sectors = self._read()
        beats = [beat for at in slots.BEATS.values() if (beat := slots.read_beat(sectors[at], seal)) is not None]
        return max(beats, key=lambda beat: beat.term).count if beats else 0

    def whose(self, seal: Seal) -> Whose:
        return slots.whose(self._read(), seal)

    def write_record(self, record: PairRecord, seal: Seal) -> Refused | None:
        found = self.records(seal)
        held = found.record
        if held is not None and (held.term, held.serial) > (record.term, record.serial):
            return Refused(f"the record of term {held.term} is there")
        return self._write(*slots.write_record(record, found, seal), os.O_DSYNC)

    def write_beat(self, node: Node, beat: Beat, seal: Seal) -> Refused | None:
        return self._write(*slots.write_beat(node, beat, seal), 0)

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files = {}

    def _read(self) -> list[bytes]:
        with self._file(os.O_RDONLY) as file:
            if os.preadv(file, [self._buffer], 0) != SECTORS * SECTOR:
                raise OSError(errno.EIO, "the slot area is not there")
        return [self._buffer[at * SECTOR : (at + 1) * SECTOR] for at in range(SECTORS)]

    def _write(self, at: int, sector: bytes, flag: int) -> Refused | None:
        with mmap.mmap(-1, SECTOR) as buffer:
            buffer[:] = sector
            try:
                with self._file(os.O_RDWR | flag) as file:
                    if os.pwritev(file, [buffer], at * SECTOR) != SECTOR:
                        raise OSError(errno.EIO, "the slot was written in part")
            except OSError as e:
                if e.errno in _REFUSALS:
                    return Refused(f"the disk refuses: {e.strerror}")
                raise
        return None

    @contextlib.contextmanager
    def _file(self, mode: int) -> Iterator[int]:
        if mode not in self._files:
            self._files[mode] = os.open(self._path, mode | os.O_DIRECT | os.O_CLOEXEC)
        try:
            yield self._files[mode]
        except OSError:
            # After an error a file says nothing reliable any more.
            os.close(self._files.pop(mode))
            raise
