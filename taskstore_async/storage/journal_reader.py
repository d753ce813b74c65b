"""Reading a journal line by line, with what is to be known of the file and of its bad lines afterwards."""

from __future__ import annotations

import os
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING, cast

import msgspec

from taskstore_async.core.line import BadLine, Line
from taskstore_async.core.line_reader import Columns, LineReader
from taskstore_async.storage.journal import chunks, record_of
from taskstore_async.storage.reports import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from taskstore_async.core.line_reader import Known
    from taskstore_async.storage.journal import FileRecord

__all__ = ["JournalReader"]

_BEGIN = b'{"id":'
_LISTED = 1_000  #: problems listed per look; a file of another kind has as many bad lines as lines


class JournalReader:
    """Reads an open journal from an offset, and keeps count of what was consumed.

    After `lines` has ended: ``offset`` is where whole, or readable, lines end; ``torn`` what stands behind it.
    """

    def __init__(
        self, descriptor: int, sources: tuple[str, ...], *, file: str, collection: str, record: FileRecord | None = None
    ) -> None:
        self._recorded_ns = time.time_ns()
        self.status = os.fstat(descriptor)
        self.offset = record.offset if record else 0
        self.good = self.bad = self.begun = self.read = 0
        self.torn = b""
        self.newline = record.newline if record else True  # of bytes that nothing was added to, too
        self.problems: list[Problem] = []
        self._names = (collection, file)
        self._descriptor = descriptor
        self._start = self.offset
        # A last line without a newline was counted, and its newline comes first now.
        number = record.lines + record.newline if record else 1
        self._reader = LineReader(sources, number=number, offset=self.offset)
        self._crc = record.crc if record else 0

    def lines(self, known: Known | None = None) -> Iterator[Line]:
        """The readable lines; the others become problems, and those that are *known* are only counted.

        Args:
            known: As for `LineReader.feed_unknown`.
        """
        for some in self._read(self._feed if known is None else partial(self._feed_unknown, known)):
            yield from cast("list[Line]", some)

    def batches(self) -> Iterator[Columns | list[Line]]:
        """The same, many at a time, and as columns where they can be."""
        return self._read(self._feed_columns)

    def _feed(self, chunk: bytes) -> Iterator[list[Line | BadLine]]:
        yield self._reader.feed(chunk)

    def _feed_unknown(self, known: Known, chunk: bytes) -> Iterator[list[Line | BadLine]]:
        for line in self._reader.feed_unknown(chunk, known):
            yield [line]

    def _feed_columns(self, chunk: bytes) -> Iterator[Columns | list[Line | BadLine]]:
        yield self._reader.feed_columns(chunk)

    def _read(
        self, feed: Callable[[bytes], Iterator[Columns | list[Line | BadLine]]]
    ) -> Iterator[Columns | list[Line]]:
        held = bytearray()
        for chunk in chunks(self._descriptor, self._start, self.status.st_size):
            held += chunk
            self.read += len(chunk)
            for found in feed(chunk):
                if isinstance(found, Columns):
                    self.good += len(found.ids)
                    yield found
                elif self._reader.flawed:
                    yield self._readable(found)
                else:
                    self.good += len(found)
                    yield cast("list[Line]", found)
            whole = self._reader.offset - self.offset
            if whole:
                with memoryview(held) as view:
                    self._crc = zlib.crc32(view[:whole], self._crc)
                del held[:whole]
                self.offset += whole
                self.newline = True
        for last in self._reader.finish():
            yield self._readable([last])
            if isinstance(last, Line):
                self._crc = zlib.crc32(held, self._crc)
                self.offset += len(held)
                held.clear()
                self.newline = False
        self.good += self._reader.passed
        self.torn = bytes(held)

    def record(self) -> FileRecord:
        """What is known of the file now."""
        return msgspec.structs.replace(
            record_of(self.status),
            recorded_ns=self._recorded_ns,
            offset=self.offset,
            crc=self._crc,
            newline=self.newline,
            lines=self._reader.number - self.newline,
            rescan=self.markers,
        )

    def unread(self) -> FileRecord:
        """A record of the file that has the next look read all of it."""
        return msgspec.structs.replace(record_of(self.status), rescan=True)

    @property
    def unreadable(self) -> bool:
        """Whether nothing may be appended: there are bytes and not one valid line, or what is appended is not read.

        Lines that begin like ours are what first appends have left that were cut short. Lines of NULs are what a power
        cut makes of one on ext4, which may have the new size of a file on the disk before its bytes.
        """
        return self.ends_in_base or (not self.good and self.bad > self.begun)

    @property
    def markers(self) -> bool:
        """Whether a conflict marker was seen."""
        return self._reader.markers

    @property
    def ends_in_base(self) -> bool:
        """Whether the file ends within the base part of a conflict, so that nothing behind it is read."""
        return self._reader.in_base

    def _readable(self, found: Iterable[Line | BadLine]) -> list[Line]:
        readable: list[Line] = []
        for line in found:
            if isinstance(line, Line):
                if line.problem is not None:
                    self._report(line, line.problem, served=True)
                readable.append(line)
            else:
                self.bad += 1
                self.begun += line.raw.startswith(_BEGIN) or not line.raw.strip(b"\0")
                self._report(line, line.reason, served=False)
        self.good += len(readable)
        return readable

    def _report(self, line: Line | BadLine, reason: str, *, served: bool) -> None:
        if len(self.problems) < _LISTED:
            self.problems.append(Problem(*self._names, line.number, line.offset, reason, served))
