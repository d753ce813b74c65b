"""Real power cuts: callers change a store on a file system whose power is cut; after the next mount we look at it.

``python -m tests.crash.real_power FILE_SYSTEM FOLDER SEED CUTS``, for a process that may mount, in a mount namespace of
its own (`images.own_namespace`): prints a line of JSON with the number of cuts and of acknowledged writes, or with
what the machine refused; a cut that lost something ends it with the traceback. ``… FILE_SYSTEM FOLDER forgets`` tells
what a cut leaves of files that were fsynced and of files that were not, and ``… hold`` mounts one until it is told to
stop.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from taskstore_async.core.schedule import Durability
from tests.crash.images import LOG_FLUSHED, LOG_LOST, Image, NoCutsHereError, image
from tests.crash.power import Change, Key, contradictions, gaps, halves
from tests.crash.storms import Storm, troubles
from tests.processes.child import Child
from tests.processes.model import Model, Values
from tests.processes.oracle import whole_lines
from tests.processes.pipe import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from tests.processes.child import Event

NEVER: Final = sys.maxsize  #: the mark of what nobody was told of
PER_STORE: Final = 6  #: cuts of one store, at most
FILES: Final = (("kept", b"x", True), ("kept", b"y", False), ("lost", b"z", False), ("last", b"z", True))
HOWS: Final = (LOG_LOST, LOG_LOST, LOG_FLUSHED)


class PowerModel(Model):
    """What must be there after a power cut: as after a kill, but for what was acknowledged at `relaxed`.

    What is acknowledged after the cut has begun may be lost: while the shutdown call runs, ext4 and xfs let an fsync
    succeed whose bytes they then drop (30 fsyncs in 600 cuts of a bare loop of writes; none before the call).
    """

    def __init__(self, start: Values) -> None:
        super().__init__(start)
        self._changes: dict[str, list[Change]] = {}
        self._begins: dict[Key, int | None] = {key_of(key): value for key, value in start.items()}
        self._mark = 0

    def follow(self, events: Iterable[Event]) -> None:
        """Take in what was told, among it when the power was cut."""
        events = list(events)
        sure = next((place for place, event in enumerate(events) if "cut" in event), len(events))
        late = [event for event in events[sure:] if not event.keys() & {"acknowledged", "exported"}]
        events = events[:sure] + late
        super().follow(events)
        exporting: dict[int, int] = {}
        for event in events:
            self._mark += 1
            if "exporting" in event:
                exporting[event["exporting"]] = self._mark
            elif "exported" in event:
                self._export(exporting[event["exported"]])
            elif "issued" in event:
                values = {key_of(key): value for key, value in event["values"].items()}
                change = Change(values, Durability(event["level"]), self._mark, NEVER)
                self._of(event["caller"]).append(change)
            elif "acknowledged" in event:
                own = self._of(event["caller"])
                own[-1] = own[-1]._replace(done=self._mark)
            elif "refused" in event and event["error"] != "WriteUncertainError":
                self._of(event["caller"]).pop()

    def _of(self, caller: str) -> list[Change]:
        """The changes of one caller; the first is what it has found."""
        if caller not in self._changes:
            found = {key: value for key, value in self._begins.items() if key[1].startswith(f"{caller}-")}
            self._changes[caller] = [Change(found, Durability.JOURNAL, 0, 0)]
        return self._changes[caller]

    def _export(self, begun: int) -> None:
        """What was acknowledged before an export began is in the journals when it has ended."""
        for own in self._changes.values():
            for place, change in enumerate(own):
                if change.done < begun:
                    own[place] = change._replace(level=Durability.JOURNAL)

    def contradictions(self, state: Values) -> list[str]:
        """What of *state* cannot be: something promised is gone, an op is there in part, or a gap is in the history."""
        wrong: list[str] = []
        alone = len(self._changes) == 1  # of several in one transaction a journal may take what one of them had lost
        for own, found in self._each(state):
            wrong += contradictions(own, self._mark, found, {Durability.JOURNAL, Durability.INDEX})
            wrong += halves(own, self._mark, found)
            if alone:
                wrong += gaps(own, self._mark, found)
        return wrong

    def contradictions_without_index(self, state: Values) -> list[str]:
        """The same, where only the journals were left."""
        each = self._each(state)
        return [one for own, found in each for one in contradictions(own, self._mark, found, {Durability.JOURNAL})]

    def _each(self, state: Values) -> Iterable[tuple[list[Change], dict[Key, int | None]]]:
        """The changes of each caller, and the records that are its own; of nobody's, as they were."""
        everything = {key_of(key): value for key, value in {**state}.items()}
        for key in everything | self._begins:
            self._of(key[1].partition("-")[0])
        for caller, own in self._changes.items():
            yield own, {key: value for key, value in everything.items() if key[1].startswith(f"{caller}-")}


def key_of(key: str) -> Key:
    """Collection and id."""
    collection, _, record_id = key.partition("/")
    return collection, record_id


class PowerStorm(Storm):
    """A storm on an image, whose power is cut under it.

    Args:
        nurseries: As for any storm.
        on: A mounted image.
        seed: Of all that is random.
    """

    model: ClassVar[type[Model]] = PowerModel
    torn: ClassVar[bool] = True

    def __init__(self, nurseries: Sequence[Child], on: Image, seed: str) -> None:
        super().__init__(nurseries, on.root / "work", seed)
        self._image = on

    def _end(self, places: Sequence[str]) -> None:
        del places
        heard = [len(nursery.events) for nursery in self.nurseries]
        self._listen_for_a_while(self.nurseries[0])
        for nursery, first in zip(self.nurseries, heard, strict=True):
            while not nursery._heard.empty():
                nursery.hear()
            assert not troubles(nursery.events[first:])
            nursery.events.append({"cut": True})
        self._image.shut_down(self.dice.choice(HOWS))
        time.sleep(self.dice.choice([0.0, 0.0, 0.01]))  # nor here: what they do on a dead disk must harm nothing
        for nursery in self.nurseries:
            nursery.tell("kill")
            nursery.hear_of("ended")  # it may have ended by itself: nothing that it had mapped can be read any more
        self._image.unmount()
        self._image.mount(self.dice.choice(self._image.options))

    def _lines(self, data: bytes) -> list[dict[str, Any]]:
        """The lines that are JSON; each cut may have left one that is none, of which nobody had been told."""
        lines = [line for line in data.split(b"\n") if line]
        whole = [line for line in lines if parses(line)]
        assert len(lines) - len(whole) <= self.runs, "more is torn than was cut"
        return whole_lines(b"\n".join(whole))


def parses(line: bytes) -> bool:
    """Whether it is JSON."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def cut(name: str, folder: Path, seed: str, cuts: int) -> int:
    """Cut so many times; returns how many writes were acknowledged."""
    dice = random.Random(seed)  # noqa: S311 - reason: a die to throw again
    acknowledged = 0
    with image(name, folder) as made, Child("nursery") as one, Child("nursery") as other:
        for nursery in (one, other):
            nursery.hear_of("ready")
        made.mount()
        left = cuts
        while left:
            storm = PowerStorm(dice.choice([(one,), (one,), (one, other)]), made, f"{seed}-{left}")
            storm.folder.mkdir()
            for _ in range(min(dice.randint(1, PER_STORE), left)):
                one.extend()
                other.extend()
                storm.round("")
            left -= storm.runs
            acknowledged += storm.acknowledged
            shutil.rmtree(storm.folder)
        one.finish()
        other.finish()
    return acknowledged


def forgotten(name: str, folder: Path, how: int) -> dict[str, str]:
    """What a cut leaves of files some of which were fsynced."""
    with image(name, folder) as made:
        made.mount()
        for file, data, fsynced in FILES:
            descriptor = os.open(made.root / file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, data)
            if fsynced:
                os.fsync(descriptor)
            os.close(descriptor)
        made.shut_down(how)
        made.unmount()
        made.mount()
        return {path.name: path.read_bytes().decode() for path in made.root.iterdir() if path.is_file()}


def main(name: str, folder: str, what: str, *numbers: str) -> None:
    """Do it, and tell of it."""
    try:
        if what == "hold":
            with image(name, Path(folder)) as made:
                made.mount()
                say(held=True)
                sys.stdin.read()
        elif what == "forgets":
            for how in (LOG_LOST, LOG_FLUSHED):
                say(how=how, left=forgotten(name, Path(folder), how))
        else:
            cuts = int(numbers[0])
            say(cuts=cuts, acknowledged=cut(name, Path(folder), what, cuts))
    except NoCutsHereError as error:
        say(refused=str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
