"""Who wrote what: the witness that judges a store by its journal alone, and the editor that disturbs it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from tests.storage.simulator_disk import (
    STAMP_MAX,
    Version,
    fold,
    is_outplaced,
    line_of,
    lines_of,
    read_line,
    says_nothing,
    tail_of,
    versions_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.storage.simulator_disk import JournalFile

Durability = Literal["relaxed", "index", "journal"]


class Witness:
    """Sees every write and every foreign edit; ``problems`` says which promise was broken.

    A version of ours may be absent from the journal for three reasons: a foreign edit took it out, a newer version of
    its record met it in a flush, or the table of durabilities gives it up (``excused``).
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.committed: list[Version] = []  #: ours, in order
        self.acked: dict[Version, Durability] = {}
        self.foreign: set[Version] = set()
        self.removed: set[Version] = set()  #: out of the journal by somebody else's hand
        self.restored: set[Version] = set()  #: ours, put back into the journal by somebody else
        self.excused: set[Version] = set()
        self._returned: set[Version] = set()  #: ours, that somebody removed and a handle did not know to be flushed
        self._late: set[Version] = set()  #: ours, and may be appended behind what is newer
        self._came_late: set[Version] = set()
        self._thinned: set[Version] = set()  #: ours, written the same several times, of which somebody took one away
        self._outbox_deleted: set[Version] = set()  #: ours, of an index that somebody deleted
        self._left_open: Version | None = None  #: the last line, when somebody else left it without its newline
        self._stubs: set[bytes] = set()  #: unreadable lines, and beginnings of some, that others left

    def complain(self, problem: str) -> None:
        self.problems.append(problem)

    def wrote(self, version: Version, *, in_lost_index: bool = False) -> None:
        """We committed the version; perhaps the same one again, after somebody removed it.

        In an index that has lost its name it comes late or never, until it is acknowledged.
        """
        self.committed.append(version)
        self.removed.discard(version)
        if in_lost_index:
            self.excused.add(version)
            self._late.add(version)

    def acknowledged(self, version: Version, durability: Durability, data: bytes) -> None:
        """A caller has its answer, while the journal holds *data*."""
        self.acked[version] = durability
        self.excused.discard(version)
        if durability == "journal" and version not in self.removed and version not in versions_of(data):
            self.complain(f"acknowledged at journal, but not in it: {version}")

    def edited(self, before: bytes, after: bytes) -> None:
        """Somebody else turned *before* into *after*."""
        old, new = set(versions_of(before)), set(versions_of(after))
        self.removed |= old - new
        self.removed -= new
        fewer = Counter(versions_of(before)) - Counter(versions_of(after))
        self._thinned |= {version for version in fewer if self.committed.count(version) > 1}
        self.foreign |= new - old - set(self.committed)
        self.restored |= (new - old) & set(self.committed)
        self._stubs |= {line for line in lines_of(after) if read_line(line) is None}
        self._stubs |= {tail_of(after)} - {b""}
        if tail_of(before) != tail_of(after):
            self._left_open = read_line(tail_of(after))

    def appended(self, before: bytes, after: bytes, *, seen: bytes | None = None) -> None:
        """We turned *before* into *after*; when we last looked, it was *seen*.

        A last line that somebody else left without its newline, and that ours was glued to, is kept by its bytes only.
        """
        if not after.startswith(before):
            self.complain("an append changed what stood in the journal")
        if after != before:
            self.removed |= (set(versions_of(before)) - set(versions_of(after))) & {self._left_open}
            self._left_open = None
            self._complete(tail_of(before), after[len(before) :])
        self._came_late |= self._late & set(versions_of(after[len(before) :]))
        self._returned |= self.removed & set(versions_of(after))
        self.removed -= set(versions_of(after))
        self._judge_repetition(before if seen is None else seen, after[len(before) :])

    def _complete(self, torn: bytes, chunk: bytes) -> None:
        """Take for somebody's what became of the beginning that they wrote of a line, when ours was glued to it."""
        whole = read_line(torn + chunk.split(b"\n")[0])
        if torn in self._stubs and whole is not None and whole not in self.committed:
            self.foreign.add(whole)

    def _judge_repetition(self, seen: bytes, chunk: bytes) -> None:
        """A line that we saw is not appended again, unless another one stands behind it that wins the tie."""
        whole = seen + chunk[:1] if chunk.startswith(b"\n") else seen
        torn, written = tail_of(whole), Counter(self.committed)
        lines = lines_of(whole[: len(whole) - len(torn)])
        for line in lines_of(torn + chunk):
            version = read_line(line)
            once = version is not None and written[version] == 1  # else it was written the same twice
            if version is not None and once and line in lines and not is_outplaced(version, line, lines):
                self.complain(f"appended twice: {version}")
            lines.append(line)

    def compacted(self, before: bytes, after: bytes) -> None:
        """We put a file *after* in the place of *before*."""
        winners = fold(versions_of(before))
        if fold(versions_of(after)) != winners:
            self.complain("compaction changed what the journal says")
        self.removed |= set(versions_of(before)) - set(winners.values())

    def index_deleted(self, data: bytes, late: Iterable[Version]) -> None:
        """Whoever deletes store.db deletes the outbox, and gives up the order of what is in it: a handle has it open.

        Args:
            data: What the journal holds.
            late: What may be in that outbox, though it be in the journal: a mark may be lost as well.
        """
        self._excuse(data, safe={"journal"})
        self._outbox_deleted |= set(late)
        self.comes_late(late)

    def comes_late(self, versions: Iterable[Version]) -> None:
        """These may be appended behind newer ones."""
        self._late |= set(versions)

    def rescued(self, versions: Iterable[Version]) -> None:
        """These are in the journal, and the index that lost its name knows it."""
        self._late -= set(versions) - self._came_late

    def power_cut(self, data: bytes) -> None:
        """The power failed, and this is what the journal holds after."""
        self.removed |= self._returned - set(versions_of(data))
        self._excuse(data, safe={"index", "journal"})
        lost = self._outbox_deleted - set(versions_of(data))  # they were in the file, but not yet on the disk
        self.excused |= {version for version in lost if self.acked.get(version) != "journal"}
        # The index may have forgotten that these were flushed, and those before them replaced.
        gone = self.removed - set(versions_of(data))
        last = {version.id: place for place, version in enumerate(self.committed) if version in gone}
        self._late |= {one for place, one in enumerate(self.committed) if place <= last.get(one.id, -1)}

    def _excuse(self, data: bytes, *, safe: set[Durability]) -> None:
        there = set(versions_of(data))
        times = Counter(self.committed)  # at the top stamp a record can be written the same twice: which one is there?
        for version in self.committed:
            gone = version not in there | self.removed or times[version] > 1
            if self.acked.get(version) not in safe and gone:
                self.excused.add(version)

    def judge(self, data: bytes, rows: Mapping[str, Version], outbox: Iterable[Version] = ()) -> None:
        """Compare the journal *data* with what the store serves and what it still has to write.

        Args:
            data: The journal's bytes, b"" when there is no file.
            rows: The live records, by id; tombstones are left out.
            outbox: What is committed and not in the journal, oldest first; empty after a flush.
        """
        outbox = list(outbox)
        present = [*versions_of(data), *outbox]
        self._judge_rows(fold(present), rows, closed=says_nothing(data))
        self._judge_presence(set(present))
        self._judge_bad_lines(data)
        for version in set(present) - set(self.committed) - self.foreign:
            self.complain(f"nobody wrote {version}")

    def _judge_rows(self, winners: dict[str, Version], rows: Mapping[str, Version], *, closed: bool) -> None:
        live = {key: version for key, version in winners.items() if version.value is not None}
        if rows != live and not closed:
            self.complain(f"index {sorted(rows.values())} is not the fold {sorted(live.values())}")
        order = {version: position for position, version in enumerate(self.committed)}
        hands = self.removed | self._thinned
        for key, last in self._last_acknowledged().items():
            taken = any(one.id == key and one in hands for one in self.committed[order[last] :])
            winner = winners.get(key, last)
            older = order.get(winner, order[last]) < order[last]
            given_up = self.excused | self.restored | self._late
            if older and not taken and winner not in given_up:
                self.complain(f"{winner} wins over our newer {last}")

    def _last_acknowledged(self) -> dict[str, Version]:
        kept = [version for version in self.committed if version in self.acked and version not in self.excused]
        return {version.id: version for version in kept}

    def _judge_presence(self, present: set[Version]) -> None:
        known = present | self.removed
        for version in self.foreign - known:
            self.complain(f"a line of somebody else is gone: {version}")
        newest = {version.id: position for position, version in enumerate(self.committed) if version in known}
        for position, version in enumerate(self.committed):
            superseded = newest.get(version.id, -1) > position
            if version in self.acked and not superseded and version not in known | self.excused:
                self.complain(f"acknowledged and lost: {version}")

    def _judge_bad_lines(self, data: bytes) -> None:
        last = {version.id: version for version in self.committed}
        given_up = [line_of(v) for v in self.committed if v != last[v.id] or v in self.excused]
        for line in lines_of(data):
            if read_line(line) is not None or any(line.startswith(stub) for stub in self._stubs):
                continue
            if not any(ours.startswith(line) for ours in given_up) and not self._is_late_rest(line):
                self.complain(f"an unreadable line that nobody wrote: {line!r}")

    def _is_late_rest(self, piece: bytes) -> bool:
        """Whether it is what follows in a line of ours on the torn piece that it should have completed.

        Somebody had ended that just before. A kill may have cut the rest, too.
        """
        for line in {line_of(version) for version in self.committed}:
            begun = line.partition(piece)[0]
            if piece in line and begun and any(stub.startswith(begun) for stub in self._stubs):
                return True
        return False


class Editor:
    """People, git and other tools: everything they do to a journal without asking for a lock."""

    def __init__(self, file: JournalFile, witness: Witness) -> None:
        self.file = file
        self.witness = witness
        self.disturbances = 0
        self.snapshots: list[bytes] = [b""]  #: what git could check out
        self._value = 500
        self._rest = b""

    def _read(self) -> bytes:
        return self.file.read() or b""

    def _done(self, before: bytes) -> None:
        after = self._read()
        self.disturbances += 1
        self.witness.edited(before, after)
        if after not in self.snapshots:
            self.snapshots.append(after)

    def version(self, record_id: str, lead_ms: int) -> Version:
        """A new version, *lead_ms* above all of its record; a lead of more than a day gives the top stamp."""
        self._value += 1
        known = [*self.witness.committed, *self.witness.foreign]
        newest = max((version.stamp for version in known if version.id == record_id), default=1_000)
        stamp = STAMP_MAX if lead_ms > 86_400_000 else min(STAMP_MAX, max(0, newest + lead_ms))
        return Version(record_id, stamp, self._value)

    def add_line(self, record_id: str, lead_ms: int = 1) -> None:
        """As ``echo >>`` does: at the end, whatever the last byte is."""
        self._append(line_of(self.version(record_id, lead_ms)) + b"\n")

    def add_bare_line(self, record_id: str, lead_ms: int = 1) -> None:
        """A whole line, but its newline."""
        self._append(line_of(self.version(record_id, lead_ms)))

    def add_piece(self, record_id: str, lead_ms: int = 1) -> None:
        """The first half of a line; ``add_rest`` brings the second."""
        line = line_of(self.version(record_id, lead_ms)) + b"\n"
        self._append(line[: len(line) // 2])
        self._rest = line[len(line) // 2 :]

    def add_rest(self) -> None:
        self._append(self._rest or b"\n")
        self._rest = b""

    def add_garbage(self) -> None:
        self._append(b"<<<<<<<\n")

    def edit_value(self, position: int = 0) -> None:
        """Change a record in place; the file's length stays."""
        lines = self._read().split(b"\n")
        found = [n for n, line in enumerate(lines) if (version := read_line(line)) and version.value is not None]
        if found:
            chosen = found[position % len(found)]
            old = read_line(lines[chosen])
            assert old is not None
            self._value += 1
            lines[chosen] = lines[chosen].replace(b'"v":%d' % (old.value or 0), b'"v":%d' % self._value)
            self._overwrite(b"\n".join(lines))

    def spoil_newline(self) -> None:
        """Turn the last newline into a space; the file's length stays."""
        data = self._read()
        if data.endswith(b"\n"):
            self._overwrite(data[:-1] + b" ")

    def drop_line(self, position: int = 0) -> None:
        """Save the file without one of its lines, as editors do: a new inode."""
        lines = self._read().splitlines(keepends=True)
        if lines:
            del lines[position % len(lines)]
            self._replace(b"".join(lines))

    def truncate(self, count: int) -> None:
        """Cut *count* bytes from the end."""
        if self.file.read() is not None:
            data = self._read()
            self._overwrite(data[: max(0, len(data) - count)])

    def check_out(self, position: int = -1) -> None:
        """Replace the file by one of its earlier contents."""
        self._replace(self.snapshots[position % len(self.snapshots)])

    def delete(self) -> None:
        before = self._read()
        self.file.unlink()
        self._done(before)

    def restore(self, data: bytes) -> None:
        """Create the file, as git does after it unlinked the old one."""
        self._replace(data)

    def remember(self) -> None:
        """Make what the file holds now one of the contents that ``check_out`` knows."""
        if self._read() not in self.snapshots:
            self.snapshots.append(self._read())

    def _append(self, data: bytes) -> None:
        self._change(self.file.append, data, self._read() + data)

    def _overwrite(self, data: bytes) -> None:
        self._change(self.file.overwrite, data, data)

    def _replace(self, data: bytes) -> None:
        self._change(self.file.replace, data, data)

    def _change(self, how: Callable[[bytes], None], data: bytes, after: bytes) -> None:
        """Do it, unless pieces of lines happen to make a stamp that cannot be read."""
        if all(version.stamp <= STAMP_MAX for version in versions_of(after)):
            before = self._read()
            how(data)
            self._done(before)
