"""Schedules: what may happen to a store, as data, for Hypothesis to invent and the model or the engine to go through.

``inside`` schedules stop the model between any two steps. ``outside`` schedules hold only what can be done to a store
from without; ``run`` leads any ``Subject`` through one and judges it by the model's oracle.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, get_args

from hypothesis import strategies as st

from tests.storage.simulator_disk import Version, fold, says_nothing, versions_of
from tests.storage.simulator_oracle import Durability, Editor, Witness
from tests.storage.simulator_world import World

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.storage.simulator import Rules
    from tests.storage.simulator_disk import JournalFile

A, B = 0, 1  #: the two handles

FAR = 10**12  #: a lead that gives a record the top stamp


class Command(NamedTuple):
    """One thing that happens. Its name is a method: of the editor, when it begins with ``editor.``."""

    name: str
    arguments: tuple[int | str, ...] = ()
    options: Mapping[str, int | str | bool | None] = {}


Schedule = list[Command]


class Subject(Protocol):
    """A store that can be led through an ``outside`` schedule: two handles, 0 and 1, on one collection.

    A handle that is not open is opened by its next call. The record's one field ``v`` is an integer.
    """

    @property
    def file(self) -> JournalFile:
        """The collection's journal."""
        ...

    def put(self, handle: int, record_id: str, *, value: int, durability: Durability) -> Version | None:
        """Upsert the record; return what was stored, None when there was no promise (file closed, uncertain)."""
        ...

    def delete(self, handle: int, record_id: str, *, durability: Durability) -> Version | None:
        """Delete the record; return the tombstone, or None when there was no promise.

        Raises:
            LookupError: There was no such record, and nothing was done.
        """
        ...

    def flush(self, handle: int) -> bool:
        """Flush; False when it raised."""
        ...

    def sync(self, handle: int) -> bool:
        """Import and flush; False when it raised."""
        ...

    def drop(self, handle: int) -> None:
        """Forget the handle without closing it, as a kill does: nothing of its memory may reach disk afterwards."""
        ...

    def delete_index(self) -> None:
        """Unlink store.db with its -wal and -shm."""
        ...

    def advance(self, ms: int) -> None:
        """Move the clock that stamps, where the subject has one."""
        ...

    def rows(self, handle: int) -> dict[str, Version]:
        """What ``list`` answers, by id."""
        ...


class ModelSubject:
    """The model, seen from outside: the first of the subjects."""

    def __init__(self, rules: Rules | None = None) -> None:
        self._world = World(rules)

    @property
    def file(self) -> JournalFile:
        return self._world.disk

    def put(self, handle: int, record_id: str, *, value: int, durability: Durability) -> Version | None:
        return self._world.put(handle, record_id, value=value, durability=durability)

    def delete(self, handle: int, record_id: str, *, durability: Durability) -> Version | None:
        refusals = self._world.refusals
        version = self._world.delete(handle, record_id, durability=durability)
        if self._world.refusals > refusals:
            raise LookupError(record_id)
        return version

    def flush(self, handle: int) -> bool:
        return self._world.flush(handle)

    def sync(self, handle: int) -> bool:
        return self._world.sync(handle)

    def drop(self, handle: int) -> None:
        self._world.kill(handle)

    def delete_index(self) -> None:
        self._world.delete_index()

    def advance(self, ms: int) -> None:
        self._world.advance(ms)

    def rows(self, handle: int) -> dict[str, Version]:
        return self._world.rows(handle)


class Run:
    """One subject on its way through one schedule. ``problems`` holds what broke."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.witness = Witness()
        self.editor = Editor(subject.file, self.witness)
        self._value = 100
        self._asked: list[tuple[str, int | None]] = []  #: every write, in order
        self._deleted = 0  #: how many there were when the index was deleted
        self._known: list[int] = []  #: which of them each version of the witness's ``committed`` is, by position
        self._looks: dict[object, set[bytes]] = {}  #: what there was, by its stat

    @property
    def problems(self) -> list[str]:
        return self.witness.problems

    def apply(self, command: Command) -> None:
        if command.name.startswith("editor."):
            getattr(self.editor, command.name.removeprefix("editor."))(*command.arguments, **command.options)
            return
        before, blind = self._bytes(), self._looks_like_another()
        getattr(self, command.name)(*command.arguments, **command.options)
        self._adopt()
        self.witness.appended(before, self._bytes(), seen=b"" if blind else before)
        self._looks_like_another()

    def _looks_like_another(self) -> bool:
        """Whether the stat is that of a former content: an append believes it, and may then repeat a line.

        Or of one that was there on the way to another, with a line less.
        """
        contents, now = self._looks.setdefault(self.subject.file.looks(), set()), self._bytes()
        contents.add(now)
        return any(len(other) >= len(now) and not other.startswith(now) for other in contents)

    def put(self, handle: int, record_id: str, *, durability: Durability = "index") -> None:
        self._value += 1
        version = self.subject.put(handle, record_id, value=self._value, durability=durability)
        self._written(record_id, self._value, version, durability)

    def delete(self, handle: int, record_id: str, *, durability: Durability = "index") -> None:
        try:
            version = self.subject.delete(handle, record_id, durability=durability)
        except LookupError:
            return
        self._written(record_id, None, version, durability)

    def flush(self, handle: int) -> None:
        self.subject.flush(handle)

    def sync(self, handle: int) -> None:
        if self.subject.sync(handle):
            self._adopt()
            self.witness.judge(self._bytes(), self.subject.rows(handle))

    def drop(self, handle: int) -> None:
        self.subject.drop(handle)

    def delete_index(self) -> None:
        self.subject.delete_index()
        self.witness.index_deleted(self._bytes(), self.witness.committed)
        self._deleted = len(self._asked)

    def advance(self, ms: int) -> None:
        self.subject.advance(ms)

    def finish(self) -> list[str]:
        """Reopen both handles, compare, and return what broke."""
        if says_nothing(self._bytes()):
            self.editor.restore(b"")  # a file with nothing readable in it is closed; the person repairs it
        for handle in (A, B):
            self.apply(Command("drop", (handle,)))
            self.apply(Command("sync", (handle,)))
        return self.problems

    def _bytes(self) -> bytes:
        return self.subject.file.read() or b""

    def _adopt(self) -> None:
        """A write without a promise may have happened: when its line shows up it is ours, in the order of writes."""
        ours = self.witness.committed
        for version, times in Counter(versions_of(self._bytes())).items():
            while ours.count(version) < times and (unsure := self._unsure(version)):
                # Of several deletions it is the first that stands behind what is older.
                older = [asked for asked, other in self._pairs(version.id) if other.stamp < version.stamp]
                asked = next((n for n in unsure if n > max(older, default=-1)), unsure[-1])
                self._adopt_as(asked, version)
        for version in fold(versions_of(self._bytes())).values():
            # At the top stamp, or when that other is gone, it may be the same as one that we wrote before another.
            newest = next((other for other in reversed(ours) if other.id == version.id), version)
            unsure = self._unsure(version)
            if unsure and version in ours and newest != version and newest.stamp <= version.stamp:
                self._adopt_as(unsure[-1], version)

    def _unsure(self, version: Version) -> list[int]:
        """The writes without a promise that may have made *version*, and of which no other is known to come."""
        wanted, known = (version.id, version.value), set(self._known)
        return [n for n, asked in enumerate(self._asked) if asked == wanted and n not in known]

    def _pairs(self, record_id: str) -> list[tuple[int, Version]]:
        pairs = zip(self._known, self.witness.committed, strict=True)
        return [(asked, version) for asked, version in pairs if version.id == record_id]

    def _adopt_as(self, asked: int, version: Version) -> None:
        place = bisect(self._known, asked)
        self._known.insert(place, asked)
        self.witness.committed.insert(place, version)
        if asked < self._deleted:
            self.witness.comes_late([version])

    def _written(self, record_id: str, value: int | None, version: Version | None, durability: Durability) -> None:
        self._asked.append((record_id, value))
        if version is None:
            return
        self._known.append(len(self._asked) - 1)
        if version[::2] != (record_id, value):
            self.witness.complain(f"asked to store {record_id}={value}, stored {version}")
        self.witness.wrote(version)
        self.witness.acknowledged(version, durability, self._bytes())


def run(subject: Subject, schedule: Sequence[Command]) -> list[str]:
    """Lead the subject through the schedule; return the promises it broke, none if all is well."""
    journey = Run(subject)
    for command in schedule:
        journey.apply(command)
    return journey.finish()


def run_inside(world: World, schedule: Sequence[Command], *, reopen: bool = True) -> list[str]:
    """Lead the model through an inside schedule; return what broke."""
    for command in schedule:
        target, name = (world.editor, command.name[7:]) if command.name.startswith("editor.") else (world, command.name)
        getattr(target, name)(*command.arguments, **command.options)
    return world.quiesce(reopen=reopen)


# -- what Hypothesis invents ---------------------------------------------------------------------------------

_handles = st.sampled_from([A, B])
_ids = st.sampled_from(["a", "b"])
_durabilities = st.sampled_from(get_args(Durability))
_positions = st.integers(0, 4)
_pauses = st.one_of(st.none(), st.integers(1, 16))


def _command(
    name: str, *arguments: st.SearchStrategy[int] | st.SearchStrategy[str], **options: st.SearchStrategy[Any]
) -> st.SearchStrategy[Command]:
    return st.builds(Command, st.just(name), st.tuples(*arguments), st.fixed_dictionaries(options))


def _edits() -> list[st.SearchStrategy[Command]]:
    leads = st.sampled_from([0, 1, 1, -1, 5_000, FAR])
    return [
        *(_command(f"editor.{name}", _ids, leads) for name in ("add_line", "add_line", "add_bare_line", "add_piece")),
        _command("editor.add_rest"),
        _command("editor.add_garbage"),
        *(_command(f"editor.{name}", _positions) for name in ("edit_value", "drop_line", "check_out")),
        _command("editor.spoil_newline"),
        _command("editor.truncate", st.integers(1, 60)),
        _command("editor.delete"),
        _command("editor.remember"),
    ]


def _writes(**pause: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Command]]:
    put = _command("put", _handles, _ids, durability=_durabilities, **pause)
    delete = _command("delete", _handles, _ids, durability=_durabilities, **pause)
    return [put, put, put, delete, _command("flush", _handles, **pause), _command("sync", _handles, **pause)]


def outside(*, max_size: int = 20) -> st.SearchStrategy[Schedule]:
    """Schedules of what can be done to any store from without."""
    commands = [
        *_writes(),
        *_writes(),
        *_edits(),
        _command("drop", _handles),
        _command("delete_index"),
        _command("advance", st.sampled_from([0, 1, 30])),
    ]
    return st.lists(st.one_of(commands), max_size=max_size)


def inside(*, max_size: int = 25) -> st.SearchStrategy[Schedule]:
    """Schedules of what can happen between any two steps of the model."""
    commands = [
        *_writes(pause=_pauses),
        *_writes(pause=_pauses),
        *_edits(),
        _command("compact", _handles, pause=_pauses),
        _command("idle", _handles, pause=_pauses),
        *[_command("step", _handles, st.integers(1, 8))] * 3,
        _command("finish", _handles),
        *[_command("kill", _handles, cut=st.integers(0, 120))] * 3,
        _command("power_cut", survives=st.integers(0, 80), commits_survive=st.booleans()),
        _command("delete_index"),
        *[_command("advance", st.sampled_from([1, 9, 30, 250]))] * 2,
        _command("set_clock_back", st.sampled_from([5, 100_000])),
        _command("edit_keeping_mtime", _positions),
        _command("git_unlink", _positions),
        _command("git_create"),
    ]
    return st.lists(st.one_of(commands), max_size=max_size)
