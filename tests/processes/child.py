"""A process of a test, seen from the test: it is told lines of JSON, and tells lines of JSON."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable

Event = dict[str, Any]  # JSON

DEADLINE_S = 60.0  #: for all that one child is asked to do; a bound for what hangs, not a measure


class Child:
    """Runs a program of ``tests.processes.programs`` for the length of a block; whatever happens, it is gone after.

    Args:
        program: Its name there.
        arguments: What it is given, as JSON.
    """

    def __init__(self, program: str, **arguments: object) -> None:
        self.events: list[Event] = []  #: all that was heard
        command = [sys.executable, "-m", "tests.processes.programs", program, json.dumps(arguments, default=str)]
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._end = time.monotonic() + DEADLINE_S
        self._heard: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put(json.loads(line))
        self._heard.put(None)

    def extend(self) -> None:
        """Begin the deadline anew."""
        self._end = time.monotonic() + DEADLINE_S

    def tell(self, do: str, **arguments: object) -> None:
        """Give the child something to do."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Event:
        """The next thing that the child tells."""
        event = self._next()
        assert event is not None, f"the child ended with {self._process.wait()} after {self.events[-3:]}"
        return event

    def _next(self) -> Event | None:
        try:
            event = self._heard.get(timeout=max(0.0, self._end - time.monotonic()))
        except queue.Empty:
            message = f"the child told nothing until the deadline, after {len(self.events)} events: {self.events[-3:]}"
            raise TimeoutError(message) from None
        if event is not None:
            self.events.append(event)
        return event

    def hear_until(self, enough: Callable[[Event], bool]) -> Event:
        """Listen until an event for which *enough* holds, and return it."""
        while not enough(event := self.hear()):
            pass
        return event

    def hear_of(self, key: str) -> Event:
        """Listen until an event that has *key*."""
        return self.hear_until(lambda event: key in event)

    def hear_out(self) -> None:
        """Listen until the child has told everything."""
        while self._next() is not None:
            pass

    def told(self, key: str) -> list[Event]:
        """Everything heard that has *key*."""
        return [event for event in self.events if key in event]

    def kill(self) -> None:
        """SIGKILL, if it still runs; everything that it told until then can be heard."""
        self._process.kill()
        self._process.wait()

    def finish(self) -> None:
        """Ask the child to end, hear it out, and see that it ended well."""
        self.tell("stop")
        self.hear_out()
        code = self._process.wait(timeout=max(0.0, self._end - time.monotonic()))
        assert code == 0, f"the child ended with {code} after {self.events[-3:]}"
