"""The simulator's world: one disk, one index, two handles, and a schedule's hand on each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.storage.simulator import SECOND_LOOK_MS, Handle, Index, Rules, Steps
from tests.storage.simulator_disk import Disk, Inode, Version, read_line, says_nothing, versions_of
from tests.storage.simulator_oracle import Durability, Editor, Witness

if TYPE_CHECKING:
    from collections.abc import Callable


class World:
    """The disk, the index, two handles and a schedule's hand on each of them.

    ``put``, ``delete``, ``flush``, ``sync``, ``compact`` and ``idle`` run to their end, or pause: before the step of
    that name, or after so many steps. A paused call goes on with ``finish``, or with the handle's next call.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.disk = Disk()
        self.witness = Witness()
        self.editor = Editor(self.disk, self.witness)
        self.store_db: Index | None = None
        self.lock_holder: Handle | None = None
        self.clock_set_back_ms = 0
        self.git_content: bytes | None = None  #: what git will create, while it is between unlink and create
        self.handles = [Handle(self), Handle(self)]
        self._calls: list[Steps[object] | None] = [None, None]
        self._at = ["", ""]
        self._results: list[object] = [None, None]
        self.refusals = 0  #: deletions of what was not there
        self._created_durably = False
        self._seqs: dict[tuple[int, int], Version] = {}
        self._indexes = 0
        self._value = 100

    # -- calls ---------------------------------------------------------------------------------------------

    def put(
        self,
        handle: int,
        record_id: str,
        *,
        durability: Durability = "index",
        value: int | None = None,
        pause: str | int | None = None,
    ) -> Version | None:
        self._value += 1
        chosen = self._value if value is None else value
        found = self._call(handle, lambda one: one.write(record_id, chosen, durability), pause)
        return found if isinstance(found, Version) else None

    def delete(
        self, handle: int, record_id: str, *, durability: Durability = "index", pause: str | int | None = None
    ) -> Version | None:
        found = self._call(handle, lambda one: one.write(record_id, None, durability), pause)
        return found if isinstance(found, Version) else None

    def flush(self, handle: int, *, pause: str | int | None = None) -> bool:
        return bool(self._call(handle, Handle.flush, pause))

    def sync(self, handle: int, *, pause: str | int | None = None) -> bool:
        return bool(self._call(handle, Handle.sync, pause))

    def compact(self, handle: int, *, pause: str | int | None = None) -> bool:
        return bool(self._call(handle, Handle.compact, pause))

    def idle(self, handle: int, *, pause: str | int | None = None) -> bool:
        return bool(self._call(handle, Handle.idle, pause))

    def _call(self, number: int, start: Callable[[Handle], Steps[object]], pause: str | int | None) -> object:
        self.finish(number)
        handle = self.handles[number]

        def program() -> Steps[object]:
            if not handle.is_open:
                yield from handle.open()
            return (yield from start(handle))

        self._calls[number] = program()
        if isinstance(pause, int):
            self.step(number, pause)
            return None
        while self._step(number):
            if self._at[number] == pause:
                return None
            self._make_way(number)
        return self._results[number]

    def step(self, number: int, count: int = 1) -> None:
        """Let the handle's call do up to *count* more steps."""
        for _ in range(count):
            self._step(number)

    def finish(self, number: int) -> None:
        """Let the handle's call, if it is in one, run to its end."""
        while self._step(number):
            self._make_way(number)

    def _make_way(self, number: int) -> None:
        """A call that waits for the lock goes on once the other handle's call has ended."""
        if self._at[number] == "wait":
            self.finish(1 - number)

    def _step(self, number: int) -> bool:
        call = self._calls[number]
        if call is None:
            return False
        try:
            self._at[number] = next(call)
        except StopIteration as end:
            self._calls[number] = None
            self._results[number] = end.value
            return False
        return True

    # -- what handles do to the world ----------------------------------------------------------------------

    def next_index_number(self) -> int:
        self._indexes += 1
        return self._indexes

    def committed(self, index: Index, seq: int, version: Version) -> None:
        self.witness.wrote(version, in_lost_index=index is not self.store_db)
        index.settled.discard(version)
        if self._seqs.setdefault((index.number, seq), version) != version:
            self.witness.complain(f"cursor {index.number, seq} names two changes")

    def create_journal(self, *, durable: bool) -> Inode:
        self._created_durably = durable and self.git_content is not None
        return self.disk.create()

    def append(self, handle: Handle, inode: Inode, chunk: bytes) -> int:
        """Write at the end of the inode; return where that was."""
        before, began = inode.data, len(inode.data)
        self.disk.write(inode, before + chunk)
        if self.disk.entry is inode:
            back = set(versions_of(inode.data)) - set(versions_of(before))
            for version in sorted(back & handle.index.settled & self.witness.removed):
                if self.witness.committed.count(version) > 1:
                    continue  # at the top stamp it was written the same twice: the other is flushed and removed
                self.witness.complain(f"it was flushed and removed, and we brought it back: {version}")
            self.witness.appended(before, inode.data, seen=handle.seen)
        return began

    def rename_over(self, data: bytes) -> None:
        before = self.disk.read() or b""
        self.disk.replace(data)
        self.witness.compacted(before, data)

    def wait(self, ms: int) -> None:
        """Let time pass; git takes less than a second look between unlink and create."""
        self.disk.now += ms
        if ms >= SECOND_LOOK_MS:
            self.git_create()

    def file_is_closed(self) -> bool:
        return says_nothing(self.disk.read() or b"")

    # -- what happens to handles ---------------------------------------------------------------------------

    def kill(self, number: int, *, cut: int = 0) -> None:
        """End the process; when it was in a write(), *cut* of its bytes are in the file."""
        handle, call = self.handles[number], self._calls[number]
        if handle.appending and handle.held is not None:
            self.append(handle, handle.held, handle.appending[: min(cut, len(handle.appending))])
        if call is not None:
            call.close()
        if self.lock_holder is handle:
            self.lock_holder = None
        self._calls[number], self._results[number] = None, None
        self.handles[number] = Handle(self)

    def power_cut(self, *, survives: int = 0, commits_survive: bool = False) -> None:
        """Both processes end; of the journal's unsynced end *survives* bytes stay, and commits at NORMAL perhaps."""
        for number in (0, 1):
            self.kill(number)
        self.disk.now += 1_000  # a machine needs that to come back
        self.disk.power_cut(survives)
        if self.store_db is not None:
            if not commits_survive:
                self.store_db.committed = self.store_db.durable
            self.store_db.durable = self.store_db.committed
            self.store_db.settled.clear()
        self.git_content = None
        self.witness.power_cut(self.disk.read() or b"")

    def delete_index(self) -> None:
        if self.store_db is not None:
            late = versions_of(b"\n".join(self.store_db.committed.outbox().values()))
            self.store_db = None
            self.witness.index_deleted(self.disk.read() or b"", late)

    def advance(self, ms: int) -> None:
        self.wait(ms)

    def set_clock_back(self, ms: int) -> None:
        self.clock_set_back_ms += ms

    def edit_keeping_mtime(self, position: int = 0) -> None:
        """Edit a value in place, then put the old mtime back, as ``cp -p`` and ``touch -r`` do."""
        inode = self.disk.entry
        mtime = inode.mtime if inode is not None else 0
        self.editor.edit_value(position)
        if inode is not None:
            inode.mtime = mtime

    def git_unlink(self, position: int = -1) -> None:
        """git's checkout, first half: the old file is gone, ``index.lock`` exists."""
        if self.git_content is None:
            self.editor.remember()
            self.git_content = self.editor.snapshots[position % len(self.editor.snapshots)]
            self._created_durably = False
            self.editor.delete()

    def git_create(self) -> None:
        """Second half: the new file is created, with O_EXCL."""
        content, self.git_content = self.git_content, None
        if content is None:
            return
        if self.disk.entry is None:
            self.editor.restore(content)
        elif self._created_durably:
            self.witness.complain("git could not create its file, because a journal write had")

    # -- the end -------------------------------------------------------------------------------------------

    def quiesce(self, *, reopen: bool = True) -> list[str]:
        """Let all end in peace, compare, and return what broke on the way."""
        self.git_create()
        for number in (0, 1):
            self.finish(number)
        if self.file_is_closed():
            self.editor.restore(b"")  # somebody repairs it
        self.advance(1_000)
        for number in (0, 1):
            if reopen:
                self.kill(number)
            self.sync(number)
            self.judge(number)
        return self.witness.problems

    def judge(self, number: int) -> None:
        """Compare journal and index, as the handle sees it, after its sync."""
        handle = self.handles[number]
        state = handle.begin()
        data = self.disk.read() or b""
        outbox = [version for line in state.outbox().values() if (version := read_line(line))]
        if outbox:
            self.witness.complain(f"a sync left {outbox} in the outbox")
        self.witness.judge(data, self.rows(number), outbox)

    def rows(self, number: int) -> dict[str, Version]:
        """The live records that the handle serves."""
        rows = self.handles[number].index.committed.rows
        return {key: row.version for key, row in rows.items() if row.version.value is not None}
