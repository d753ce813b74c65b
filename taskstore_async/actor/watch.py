"""Watching: a feed of changes that is ordered, gap-free, resumable, and grows no buffer.

Each watcher reads the log for itself, from where it is, as fast as it is asked: a slow one holds nobody up. When the
log has been trimmed past it, it is told so.
"""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from anyio import Event, current_time, sleep

from taskstore_async.core.change import Change, ChangeKind, Position
from taskstore_async.core.query import Cursor
from taskstore_async.errors import LaggedError, StoreClosedError, UnreadableRecordError
from taskstore_async.storage import feed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from taskstore_async.actor.readers import Readers
    from taskstore_async.storage.reader import Reader
    from taskstore_async.storage.rows import Found

__all__ = ["Bell", "Watcher"]

_PAGE: Final = 200
_POLL_S: Final = 0.1


class Bell:
    """Wakes whoever waits for something to change: rung by our own writes, and by those that a poll notices."""

    def __init__(self) -> None:
        self._event = Event()
        self._listeners = 0
        self._needed = Event()
        self._closed = False

    def ring(self) -> None:
        """Wake everybody who waits now."""
        self._event.set()
        self._event = Event()

    def close(self) -> None:
        """Wake everybody, for the last time."""
        self._closed = True
        self.ring()

    @property
    def next(self) -> Event:
        """An event that the next ring sets. Take it before looking at what may have changed."""
        return self._event

    async def wait(self, event: Event) -> None:
        """Wait for *event*, taken from `next` before.

        Raises:
            StoreClosedError: The manager is closing.
        """
        if self._closed:
            raise StoreClosedError
        self._listeners += 1
        self._needed.set()
        try:
            await event.wait()
        finally:
            self._listeners -= 1
        if self._closed:
            raise StoreClosedError

    async def poll(self, readers: Readers) -> None:
        """Ring when another process has committed, while somebody listens; until cancelled."""
        seen: Position | None = None
        while True:
            if not self._listeners:
                self._needed = Event()
                await self._needed.wait()
            newest = await readers.ask(feed.newest)
            if newest != seen:
                seen = newest
                self.ring()
            await sleep(_POLL_S)


class Watcher:
    """What one caller of `StateManager.watch` sees.

    Args:
        readers: Where the log is read.
        bell: Tells when to look again.
        name: Of this collection alone; None for all.
        load: Makes the record of a line.
    """

    def __init__(self, readers: Readers, bell: Bell, name: str | None, load: Callable[[str, Found], Any]) -> None:
        self._readers = readers
        self._bell = bell
        self._name = name
        self._load = load

    async def changes(self, since: str | None) -> AsyncGenerator[Change[Any]]:
        """Yield changes for ever.

        Args:
            since: The cursor behind which to begin; None for what happens from now on.

        Raises:
            LaggedError: The log was trimmed past this watcher, which was too slow.
            InvalidFilterError: *since* is no cursor.
            StoreClosedError: The manager is closing.
        """
        position = await self._newest() if since is None else Position.parse(since)
        begun = since is None
        limit = _PAGE
        while True:
            event, old_at_s = self._bell.next, current_time() + _POLL_S
            page = await self._readers.ask(partial(feed.page, after=position, wanted=self._name, limit=limit))
            if page is None:
                now = await self._newest()
                if begun and now.index_id == position.index_id:
                    raise LaggedError(str(position))
                async with aclosing(self._anew(now)) as changes:
                    async for change in changes:
                        yield change
                position, begun = now, True
                continue
            begun = True
            entries, behind = page
            for done, entry in enumerate(entries, start=1):
                position = Position(position.index_id, entry.seq)
                yield self._change(entry, position)
                # Something was written since, or may have been by another handle, which rings no bell here while
                # nobody listens: what this page says of the rest may be old.
                if done < len(entries) and (self._bell.next is not event or current_time() >= old_at_s):
                    limit = 2 * done
                    break
            else:
                if behind == position and not entries:
                    await self._bell.wait(event)
                position, limit = behind, _PAGE

    async def _newest(self) -> Position:
        return await self._readers.ask(feed.newest)

    def _change(self, entry: feed.Entry, position: Position) -> Change[Any]:
        record, unreadable = self._read(entry.collection, entry.found)
        return Change(
            kind=entry.kind,
            collection=entry.collection,
            id=entry.id,
            record=record,
            superseded=entry.superseded,
            origin=entry.origin,
            cursor=str(position),
            unreadable=unreadable,
        )

    def _read(self, collection: str, found: Found | None) -> tuple[Any, str | None]:
        """The record of a line, or why it is none: one that somebody spoiled must not end the feed of all others."""
        if found is None:
            return None, None
        try:
            return self._load(collection, found), None
        except UnreadableRecordError as error:
            return None, error.reason

    async def _anew(self, position: Position) -> AsyncGenerator[Change[Any]]:
        """A reset, and every live record; what changes meanwhile comes behind *position*.

        Only the cursor of the last one leads there: whoever stops before that has not seen all, and begins anew.
        """
        last: Change[Any] = Change(kind=ChangeKind.RESET, collection="", id="", cursor=str(Position.NOWHERE))
        for name in [self._name] if self._name is not None else await self._readers.ask(_names):
            after: Cursor | None = None
            while found := await self._readers.ask(partial(feed.present, name=name, after=after, limit=_PAGE)):
                for record in found:
                    yield last
                    loaded, unreadable = self._read(name, record)
                    last = Change(
                        kind=ChangeKind.PRESENT,
                        collection=name,
                        id=record.id,
                        record=loaded,
                        cursor=str(Position.NOWHERE),
                        unreadable=unreadable,
                    )
                after = Cursor.at(None, found[-1].id, {"id": found[-1].id}.__getitem__)
        yield msgspec.structs.replace(last, cursor=str(position))


def _names(reader: Reader) -> list[str]:
    return [name for name in reader.collections if not name.startswith("_")]
