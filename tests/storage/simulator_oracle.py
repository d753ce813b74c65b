"""Who wrote what: the witness that judges a store by its journal alone, and the editor that disturbs it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from tests.storage.simulator_disk import (
    STAMP_MAX,
    Version,
    fold,
    line_of,
    lines_of,
    read_line,
    says_nothing,
    tail_of,
    versions_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
        self._stubs: set[bytes] = set()  #: unreadable lines, and beginnings of some, that others left

    def complain(self, problem: str) -> None:
        self.problems.append(problem)

    def wrote(self, version: Version) -> None:
        """We committed the version; perhaps the same one again, after somebody removed it."""
        self.committed.append(version)
        self.removed.discard(version)

    def acknowledged(self, version: Version, durability: Durability, data: bytes) -> None:
        """A caller has its answer, while the journal holds *data*."""
        self.acked[version] = durability
        if durability == "journal" and version not in self.removed and version not in versions_of(data):
            self.complain(f"acknowledged at journal, but not in it: {version}")

    def edited(self, before: bytes, after: bytes) -> None:
        """Somebody else turned *before* into *after*."""
        old, new = set(versions_of(before)), set(versions_of(after))
        self.removed |= old - new
        self.removed -= new
        self.foreign |= new - old - set(self.committed)
        self.restored |= (new - old) & set(self.committed)
        self._stubs |= {line for line in lines_of(after) if read_line(line) is None}
        self._stubs |= {tail_of(after)} - {b""}

    def appended(self, before: bytes, after: bytes) -> None:
        """We turned *before* into *after*.

        A last line that another writer had not ended yet, and that ours was glued to, is kept by its bytes only.
        """
        old, new = set(versions_of(before)), set(versions_of(after))
        self.removed |= (old - new) & self.foreign
        self.removed -= new
        self._judge_repetition(before, after)

    def _judge_repetition(self, before: bytes, after: bytes) -> None:
        if not after.startswith(before):
            self.complain("an append changed what stood in the journal")
        winners, written = fold(versions_of(before)), Counter(self.committed)
        for line in set(lines_of(before)) & set(lines_of(after[len(before) :])):
            version = read_line(line)
            if version is None or written[version] > 1 or version in self.restored:
                continue  # written the same twice, or put there by somebody else while we appended
            if winners[version.id] == version or winners[version.id].stamp > version.stamp:
                self.complain(f"appended twice: {version}")

    def compacted(self, before: bytes, after: bytes) -> None:
        """We put a file *after* in the place of *before*."""
        winners = fold(versions_of(before))
        if fold(versions_of(after)) != winners:
            self.complain("compaction changed what the journal says")
        self.removed |= set(versions_of(before)) - set(winners.values())

    def index_deleted(self, data: bytes) -> None:
        """Whoever deletes store.db deletes the outbox."""
        self._excuse(data, safe={"journal"})

    def power_cut(self, data: bytes) -> None:
        """The power failed, and this is what the journal holds after."""
        self._excuse(data, safe={"index", "journal"})

    def _excuse(self, data: bytes, *, safe: set[Durability]) -> None:
        there = set(versions_of(data))
        times = Counter(self.committed)  # at the top stamp a record can be written the same twice: which one is there?
        for version in self.committed:
            if self.acked.get(version) not in safe and (version not in there or times[version] > 1):
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
        for key, last in self._last_acknowledged().items():
            winner = winners.get(key, last)
            older = order.get(winner, order[last]) < order[last]
            # What an unlinked store.db still had may come late: whoever deleted it gave up its order as well.
            if older and last not in self.removed and winner not in self.excused | self.restored:
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
        # The rest of a line of ours, when the torn piece it should complete was another's, who ended it just before.
        late_rests = [line_of(v) for v in self.committed] if self._stubs else []
        for line in lines_of(data):
            if read_line(line) is not None or any(line.startswith(stub) for stub in self._stubs):
                continue
            if not any(ours.startswith(line) for ours in given_up) and not any(o.endswith(line) for o in late_rests):
                self.complain(f"an unreadable line that nobody wrote: {line!r}")


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
        before = self._read()
        self.file.append(data)
        self._done(before)

    def _overwrite(self, data: bytes) -> None:
        before = self._read()
        self.file.overwrite(data)
        self._done(before)

    def _replace(self, data: bytes) -> None:
        before = self._read()
        self.file.replace(data)
        self._done(before)
