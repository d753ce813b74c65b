"""store.lock: one holder at a time, everybody's turn comes, and nothing is left behind."""

from __future__ import annotations

import errno
import fcntl
import gc
import itertools
import os
import signal
import struct
import subprocess
import sys
import threading
import warnings
from collections import deque
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import portalocker
import pytest

from taskstore_async.errors import NoStoreError, StoreClosedError, StoreLockedError, StoreReadOnlyError
from taskstore_async.storage import lock as lock_module
from taskstore_async.storage import lock_file
from taskstore_async.storage.lock import LOCK_NAME, THREAD_NAME, StoreLock
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

PATIENCE_S = 60.0  # how long a test waits for what must happen; never spent when it does

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not run there yet")


class Flocks:
    """Stands in flock's place, does what it does, and tells of it."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.asked = threading.Semaphore(0)  # an exclusive lock is about to be waited for
        self.freed = threading.Semaphore(0)  # a lock has been released
        self.on_ask: Callable[[], None] = lambda: None

    def __call__(self, descriptor: int, flags: int) -> None:
        self.calls.append(flags)
        if flags == fcntl.LOCK_UN:
            fcntl.flock(descriptor, flags)
            self.freed.release()
        else:
            self.asked.release()
            self.on_ask()
            fcntl.flock(descriptor, flags)


class Arrivals(deque[Any]):
    """A queue that tells when somebody joins it."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Semaphore(0)

    def append(self, turn: Any, /) -> None:  # noqa: ANN401 - reason: whatever the turnstile puts there
        super().append(turn)
        self.came.release()


@pytest.fixture
def flocks(monkeypatch: pytest.MonkeyPatch) -> Flocks:
    flocks = Flocks()
    monkeypatch.setattr(portalocker.portalocker.FlockLocker, "_locker", staticmethod(flocks))
    return flocks


@pytest.fixture
def lock(tmp_path: Path) -> StoreLock:
    return StoreLock.of(tmp_path)


@contextmanager
def held_elsewhere(directory: Path, text: bytes = b"") -> Generator[int]:
    """Hold the lock as another process would: a descriptor of its own, and nothing but flock."""
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.pwrite(descriptor, text, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def is_free(directory: Path) -> bool:
    try:
        with held_elsewhere(directory):
            return True
    except BlockingIOError:
        return False


def within(semaphore: threading.Semaphore) -> None:
    assert semaphore.acquire(timeout=PATIENCE_S)


def turnstile(lock: StoreLock) -> lock_module._Turnstile:
    return lock._turnstile_now()


def watch_arrivals(lock: StoreLock) -> threading.Semaphore:
    arrivals = Arrivals()
    turnstile(lock)._waiting = arrivals
    return arrivals.came


def start(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def join(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def hold_briefly(lock: StoreLock, note: Callable[[], object]) -> None:
    with lock.hold(deadline_s=PATIENCE_S):
        note()


@contextmanager
def program(script: str, *arguments: object) -> Generator[subprocess.Popen[str]]:
    """Run *script* in another process; it is killed at the end of the block, if it has not ended."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    return pipe(process.stdout).readline().strip()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


HOLDER = """
import sys
from pathlib import Path
from taskstore_async.storage.lock import StoreLock
sys.argv[0] = "/usr/bin/tstore"
with StoreLock.of(Path(sys.argv[1])).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


class TestExclusion:
    """One holder at a time, whichever thread or process it is."""

    def test_threads_exclude_each_other(self, lock: StoreLock) -> None:
        inside: list[int] = []
        most: list[int] = []

        def work() -> None:
            for _ in range(50):
                with lock.hold(deadline_s=PATIENCE_S):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()

        join(*[start(work) for _ in range(4)])
        assert len(most) == 200
        assert set(most) == {1}

    def test_while_it_is_held_no_other_process_can_lock_the_file(self, tmp_path: Path, lock: StoreLock) -> None:
        with lock.hold():
            assert not is_free(tmp_path)
        assert is_free(tmp_path)

    def test_it_waits_for_a_holder_in_another_process(self, tmp_path: Path, lock: StoreLock, flocks: Flocks) -> None:
        order: list[str] = []
        with program(HOLDER, tmp_path) as other:
            assert said(other) == "held"
            waiting = start(partial(hold_briefly, lock, lambda: order.append("ours")))
            within(flocks.asked)
            order.append("theirs ends")
            pipe(other.stdin).close()
            join(waiting)
        assert order == ["theirs ends", "ours"]

    def test_the_lock_of_a_killed_process_is_free(self, tmp_path: Path, lock: StoreLock) -> None:
        with program(HOLDER, tmp_path) as other:
            assert said(other) == "held"
            other.send_signal(signal.SIGKILL)
            other.wait()
            with lock.hold(deadline_s=PATIENCE_S):
                assert lock.held

    def test_it_is_released_when_the_block_raises(self, tmp_path: Path, lock: StoreLock) -> None:
        with pytest.raises(ValueError, match="broken"), lock.hold():
            raise ValueError("broken")
        assert is_free(tmp_path)

    def test_a_directory_is_one_lock_however_it_is_spelt(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = tmp_path / "store"
        store.mkdir()
        (tmp_path / "link").symlink_to(store)
        monkeypatch.chdir(tmp_path)
        lock = StoreLock.of(store)
        assert StoreLock.of(tmp_path / "link") is lock
        assert StoreLock.of(tmp_path / "other" / ".." / "store") is lock
        assert StoreLock.of(type(tmp_path)("store")) is lock
        assert StoreLock.of(tmp_path) is not lock

    def test_held_is_said_of_the_thread_that_holds(self, lock: StoreLock) -> None:
        seen: list[bool] = [lock.held]
        with lock.hold():
            seen.append(lock.held)
            join(start(lambda: seen.append(lock.held)))
        seen.append(lock.held)
        assert seen == [False, True, False, False]

    def test_a_second_hold_of_the_same_thread_is_refused(self, tmp_path: Path, lock: StoreLock) -> None:
        with lock.hold():
            with pytest.raises(RuntimeError, match=r"this thread holds .*store\.lock already"), lock.hold():
                pass
            assert lock.held
            assert not is_free(tmp_path)
        with lock.hold():
            assert lock.held

    def test_one_hold_is_entered_once(self, tmp_path: Path, lock: StoreLock) -> None:
        hold = lock.hold()
        with hold:
            with pytest.raises(RuntimeError, match="entered twice"):
                hold.__enter__()
            assert not is_free(tmp_path)
        assert is_free(tmp_path)

    def test_leaving_twice_does_not_release_the_next_holder(self, tmp_path: Path, lock: StoreLock) -> None:
        first = lock.hold()
        with first:
            pass
        with lock.hold():
            first.__exit__(None, None, None)
            assert not is_free(tmp_path)


class TestTurns:
    """Whoever waits gets a turn: threads in the order they came, processes in the kernel's order."""

    def test_threads_are_served_in_the_order_they_came(self, lock: StoreLock) -> None:
        came = watch_arrivals(lock)
        served: list[int] = []
        with lock.hold():
            within(came)
            threads: list[threading.Thread] = []
            for number in range(8):
                threads.append(start(partial(hold_briefly, lock, partial(served.append, number))))
                within(came)
        join(*threads)
        assert served == list(range(8))

    def test_between_two_threads_the_lock_is_free_for_other_processes(self, lock: StoreLock, flocks: Flocks) -> None:
        came = watch_arrivals(lock)
        with lock.hold():
            within(came)
            waiting = start(partial(hold_briefly, lock, bool))
            within(came)
        join(waiting)
        assert flocks.calls == [fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_EX, fcntl.LOCK_UN]

    def test_it_waits_in_the_kernel_and_on_the_helper(self, tmp_path: Path, lock: StoreLock, flocks: Flocks) -> None:
        names: list[str] = []
        flocks.on_ask = lambda: names.append(threading.current_thread().name)
        with held_elsewhere(tmp_path):
            waiting = start(partial(hold_briefly, lock, bool))
            within(flocks.asked)
        join(waiting)
        assert flocks.calls == [fcntl.LOCK_EX, fcntl.LOCK_UN]  # LOCK_NB would be polling
        with lock.hold():  # a free one too: a first try in the caller's thread would overtake who queues
            assert names == [THREAD_NAME, THREAD_NAME]

    @pytest.mark.usefixtures("clock")
    def test_threads_that_queue_behind_a_try_keep_their_order(
        self, tmp_path: Path, lock: StoreLock, flocks: Flocks
    ) -> None:
        alone(lock, flocks)
        came = watch_arrivals(lock)
        served: list[int] = []
        queued: list[threading.Thread] = []

        def queue_others() -> None:
            flocks.on_ask = lambda: None
            for number in (1, 2):
                queued.append(start(partial(hold_briefly, lock, partial(served.append, number))))
                within(came)

        flocks.on_ask = queue_others
        with held_elsewhere(tmp_path):
            trying = start(partial(hold_briefly, lock, partial(served.append, 0)))
            within(flocks.asked)
            within(flocks.asked)  # the try has failed, and the helper waits
        join(trying, *queued)
        assert served == [0, 1, 2]

    def test_it_is_flock_whatever_the_program_tells_portalocker(
        self, tmp_path: Path, lock: StoreLock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(portalocker.portalocker, "LOCKER", fcntl.lockf)
        with lock.hold():
            assert not is_free(tmp_path)


TRY = fcntl.LOCK_EX | fcntl.LOCK_NB


class Clock:
    """Stands in for time.monotonic in the lock's module."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lock_module, "time", clock)
    return clock


def alone(lock: StoreLock, flocks: Flocks) -> None:
    """Hold the lock as often as it takes until nobody else counts as being there."""
    for _ in range(lock_module._ALONE + 1):
        hold_briefly(lock, bool)
    flocks.calls.clear()
    flocks.asked = threading.Semaphore(0)


@pytest.mark.usefixtures("clock")
class TestFirstTry:
    """Who has long been alone tries once in its own thread, and never often enough to keep others out."""

    def test_it_takes_a_free_lock_without_the_helper(self, tmp_path: Path, lock: StoreLock, flocks: Flocks) -> None:
        alone(lock, flocks)
        names: list[str] = []
        flocks.on_ask = lambda: names.append(threading.current_thread().name)
        with lock.hold():
            assert lock.held
            assert not is_free(tmp_path)
        assert is_free(tmp_path)
        assert flocks.calls == [TRY, fcntl.LOCK_UN]
        assert names == [threading.current_thread().name]

    def test_nobody_tries_before_having_been_alone_for_a_while(self, lock: StoreLock, flocks: Flocks) -> None:
        for _ in range(lock_module._ALONE):
            hold_briefly(lock, bool)
        assert TRY not in flocks.calls

    def test_once_somebody_else_has_signed_it_queues_again(
        self, tmp_path: Path, lock: StoreLock, flocks: Flocks
    ) -> None:
        alone(lock, flocks)
        with held_elsewhere(tmp_path, b"12 tstore\n"):
            pass
        hold_briefly(lock, bool)  # which finds the other's signature
        flocks.calls.clear()
        for _ in range(lock_module._ALONE):
            hold_briefly(lock, bool)
        assert TRY not in flocks.calls

    def test_a_try_that_fails_waits_in_the_queue_and_is_not_repeated(
        self, tmp_path: Path, lock: StoreLock, flocks: Flocks
    ) -> None:
        alone(lock, flocks)
        with held_elsewhere(tmp_path):
            waiting = start(partial(hold_briefly, lock, bool))
            within(flocks.asked)
            within(flocks.asked)
        join(waiting)
        hold_briefly(lock, bool)
        assert flocks.calls == [TRY, fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_EX, fcntl.LOCK_UN]

    def test_a_run_of_tries_ends_with_a_turn_in_the_queue(self, lock: StoreLock, flocks: Flocks, clock: Clock) -> None:
        alone(lock, flocks)
        for _ in range(100):
            hold_briefly(lock, lambda: setattr(clock, "now_s", clock.now_s + lock_module._TRIES_S / 4))
        turns = [number for number, call in enumerate(flocks.calls[::2]) if call == fcntl.LOCK_EX]
        assert 20 <= len(turns) <= 34
        assert max(later - former for former, later in itertools.pairwise(turns)) <= 5

    def test_after_a_pause_there_is_nobody_to_be_overtaken(self, lock: StoreLock, flocks: Flocks, clock: Clock) -> None:
        alone(lock, flocks)
        for _ in range(10):
            clock.now_s += 1.0
            hold_briefly(lock, bool)
        assert set(flocks.calls) == {TRY, fcntl.LOCK_UN}

    def test_a_file_that_was_replaced_is_left_to_the_queue(
        self, tmp_path: Path, lock: StoreLock, flocks: Flocks
    ) -> None:
        alone(lock, flocks)
        lock.path.unlink()
        with lock.hold():
            assert not is_free(tmp_path)
        assert is_free(tmp_path)

    def test_what_the_system_refuses_is_told_by_the_queue(
        self, tmp_path: Path, lock: StoreLock, flocks: Flocks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alone(lock, flocks)
        with monkeypatch.context() as patch:
            patch.setattr(os, "lstat", fails(errno.EIO))
            with pytest.raises(OSError, match=LOCK_NAME):
                lock.hold().__enter__()
        assert is_free(tmp_path)

    @pytest.mark.parametrize("free", [True, False])
    def test_an_interrupted_try_leaves_nothing_behind(
        self, tmp_path: Path, lock: StoreLock, flocks: Flocks, *, free: bool
    ) -> None:
        alone(lock, flocks)
        waiting: list[threading.Thread] = []

        def interrupt() -> None:
            flocks.on_ask = lambda: None
            came = watch_arrivals(lock)
            waiting.append(start(partial(hold_briefly, lock, bool)))
            within(came)
            raise KeyboardInterrupt

        flocks.on_ask = interrupt
        with nullcontext() if free else held_elsewhere(tmp_path), pytest.raises(KeyboardInterrupt):
            lock.hold().__enter__()
        join(*waiting)
        assert is_free(tmp_path)
        with lock.hold(deadline_s=PATIENCE_S):
            assert lock.held

    def test_interrupted_on_its_way_to_the_queue_it_leaves_nothing_behind(
        self, tmp_path: Path, lock: StoreLock, flocks: Flocks
    ) -> None:
        alone(lock, flocks)
        gate = turnstile(lock)

        class Interrupting(deque[Any]):
            def appendleft(self, turn: Any, /) -> None:  # noqa: ANN401 - reason: whatever the turnstile puts there
                super().appendleft(turn)
                raise KeyboardInterrupt

        gate._waiting = Interrupting()
        with held_elsewhere(tmp_path), pytest.raises(KeyboardInterrupt):
            lock.hold().__enter__()
        assert not gate._waiting
        with lock.hold(deadline_s=PATIENCE_S):
            assert lock.held
        assert is_free(tmp_path)


RIVAL = """
import os, struct, sys
from pathlib import Path
from taskstore_async.storage.lock import StoreLock

directory, me, enough, bound = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
board = os.open(directory / "board", os.O_RDWR)
lock = StoreLock.of(directory)
for _ in range(50):  # long enough alone to have begun to try first
    with lock.hold():
        pass
print("ready", flush=True)
sys.stdin.readline()
counts = [0, 0, 0]
while min(counts) < enough and counts[me] < bound:
    with lock.hold(deadline_s=60):
        *counts, disturbed, inside = struct.unpack("5q", os.pread(board, 40, 0))
        disturbed += inside
        os.pwrite(board, struct.pack("5q", *counts, disturbed, 1), 0)
        counts[me] += 1
        sum(range(30_000))  # held far longer than it is free: who only looks now and then hardly ever gets it
        os.pwrite(board, struct.pack("5q", *counts, disturbed, 0), 0)
"""


ENOUGH = 200  # rounds that each has to get
BOUND = 5_000  # rounds after which one gives up waiting for the others to get theirs


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, ...]:
    """What three rivals wrote: the rounds of each, disturbances, and whether one is still inside."""
    directory = tmp_path_factory.mktemp("rivals")
    (directory / "board").write_bytes(bytes(40))
    with (
        program(RIVAL, directory, 0, ENOUGH, BOUND) as first,
        program(RIVAL, directory, 1, ENOUGH, BOUND) as second,
        program(RIVAL, directory, 2, ENOUGH, BOUND) as third,
    ):
        rivals = (first, second, third)
        assert [said(process) for process in rivals] == ["ready"] * 3
        for process in rivals:
            pipe(process.stdin).write("go\n")
            pipe(process.stdin).flush()
        assert [process.wait(PATIENCE_S) for process in rivals] == [0, 0, 0]
    board: tuple[int, ...] = struct.unpack("5q", (directory / "board").read_bytes())
    return board


class TestRivals:
    """Three processes that lock in a loop exclude each other, and none starves."""

    def test_none_of_them_starves(self, board: tuple[int, ...]) -> None:
        assert min(board[:3]) >= ENOUGH
        assert max(board[:3]) < BOUND

    def test_none_of_them_met_another_inside(self, board: tuple[int, ...]) -> None:
        assert board[3:] == (0, 0)


class TestDeadline:
    """A caller waits no longer than it may, learns who holds the lock, and leaves nothing behind."""

    def test_the_holders_process_and_command_are_named(self, tmp_path: Path, lock: StoreLock) -> None:
        with program(HOLDER, tmp_path) as other:
            assert said(other) == "held"
            with pytest.raises(StoreLockedError) as caught, lock.hold(deadline_s=0.01):
                pass
        assert caught.value.holder == f"process {other.pid} (tstore)"
        assert caught.value.waited_s == 0.01
        assert caught.value.path == str(lock.path)
        assert f"for the 0.01 s that this call may wait, by process {other.pid} (tstore)" in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "holder"),
        [
            (b"", ""),
            (b"12 git hook\nmore", "process 12 (git hook)"),
            (b"12", "12"),
            (b"another tool", "another tool"),
            (b"12 \x1b[2Jx\xff", "process 12 (?[2Jx\N{REPLACEMENT CHARACTER})"),
            (b"12 " + b"x" * 1_000, f"process 12 ({'x' * 197})"),
        ],
    )
    def test_whatever_stands_in_the_file_is_safe_to_show(
        self, tmp_path: Path, lock: StoreLock, text: bytes, holder: str
    ) -> None:
        with held_elsewhere(tmp_path, text), pytest.raises(StoreLockedError) as caught, lock.hold(deadline_s=0):
            pass
        assert caught.value.holder == holder

    @pytest.mark.parametrize("call", ["open", "read"])
    def test_a_file_that_cannot_be_read_names_nobody(
        self, tmp_path: Path, lock: StoreLock, monkeypatch: pytest.MonkeyPatch, flocks: Flocks, call: str
    ) -> None:
        with held_elsewhere(tmp_path, b"12 tstore\n"):
            waiting = start(partial(hold_briefly, lock, bool))
            within(flocks.asked)  # the helper has opened the file
            with monkeypatch.context() as patch:
                patch.setattr(os, call, fails(errno.EIO))
                with pytest.raises(StoreLockedError) as caught, lock.hold(deadline_s=0):
                    pass
        join(waiting)
        assert caught.value.holder == ""
        assert "an unknown process" in str(caught.value)

    @pytest.mark.parametrize("deadline_s", [0, -1, float("-inf"), float("nan")])
    def test_without_patience_it_gives_up_at_once(self, tmp_path: Path, lock: StoreLock, deadline_s: float) -> None:
        with held_elsewhere(tmp_path), pytest.raises(StoreLockedError, match="for the 0 s"):
            lock.hold(deadline_s=deadline_s).__enter__()

    def test_without_patience_it_has_what_is_free(self, tmp_path: Path, lock: StoreLock, flocks: Flocks) -> None:
        with lock.hold():
            pass
        for _ in range(3):  # behind one that failed, too
            flocks.freed = threading.Semaphore(0)
            with held_elsewhere(tmp_path), pytest.raises(StoreLockedError), lock.hold(deadline_s=0):
                pass
            within(flocks.freed)  # by the helper, which had begun to wait for it
            with lock.hold(deadline_s=0):
                assert lock.held
                assert not is_free(tmp_path)
            assert is_free(tmp_path)

    def test_patience_may_be_endless(self, lock: StoreLock) -> None:
        with lock.hold(deadline_s=float("inf")):
            assert lock.held

    def test_a_lock_that_comes_late_is_released(self, tmp_path: Path, lock: StoreLock, flocks: Flocks) -> None:
        with held_elsewhere(tmp_path):
            with pytest.raises(StoreLockedError):
                lock.hold(deadline_s=0).__enter__()
            within(flocks.asked)
        within(flocks.freed)
        assert is_free(tmp_path)
        assert flocks.calls == [fcntl.LOCK_EX, fcntl.LOCK_UN]
        with lock.hold():
            assert lock.held

    def test_a_lock_that_comes_late_goes_to_the_next_caller(
        self, tmp_path: Path, lock: StoreLock, flocks: Flocks
    ) -> None:
        came = watch_arrivals(lock)
        served: list[bool] = []
        with held_elsewhere(tmp_path):
            with pytest.raises(StoreLockedError):
                lock.hold(deadline_s=0).__enter__()
            within(came)
            next_one = start(partial(hold_briefly, lock, lambda: served.append(lock.held)))
            within(came)
        join(next_one)
        assert served == [True]
        assert flocks.calls == [fcntl.LOCK_EX, fcntl.LOCK_UN]  # it is not asked for twice

    def test_a_lock_that_comes_in_the_moment_of_giving_up_is_taken(
        self, tmp_path: Path, lock: StoreLock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lock_module, "_Turn", partial(TurnWithGate, lambda came: not came))
        with lock.hold():
            assert not is_free(tmp_path)
        assert is_free(tmp_path)

    def test_a_caller_that_gave_up_is_out_of_the_queue_before_anything_else(
        self, tmp_path: Path, lock: StoreLock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queued: list[int] = []

        def holder(_: lock_file.LockFile) -> str:
            queued.append(len(turnstile(lock)._waiting))
            return "somebody"

        monkeypatch.setattr(lock_file.LockFile, "holder", holder)
        with held_elsewhere(tmp_path), pytest.raises(StoreLockedError, match="somebody"):
            lock.hold(deadline_s=0).__enter__()
        assert queued == [0]

    def test_a_caller_that_gives_up_does_not_cost_the_others_their_place(self, lock: StoreLock) -> None:
        came = watch_arrivals(lock)
        served: list[int] = []
        with lock.hold():
            within(came)
            first = start(partial(hold_briefly, lock, partial(served.append, 1)))
            within(came)

            def give_up() -> None:
                with pytest.raises(StoreLockedError):
                    lock.hold(deadline_s=0).__enter__()

            join(start(give_up))
            within(came)
            last = start(partial(hold_briefly, lock, partial(served.append, 2)))
            within(came)
        join(first, last)
        assert served == [1, 2]


class TurnWithGate(lock_module._Turn):
    """A turn whose gate, once open, says what a test wants of it."""

    def __init__(self, answer: Callable[[bool], bool]) -> None:
        super().__init__()
        self._answer = answer

    def queue(self) -> None:
        super().queue()
        gate, answer = self.gate, self._answer

        class Gate:
            def acquire(self, *, timeout: float) -> bool:
                return answer(gate.acquire(timeout=timeout))

            def release(self) -> None:
                gate.release()

        self.gate = Gate()  # type: ignore[assignment] # reason: it has what is used of a Lock


def fails(number: int) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> Any:  # noqa: ANN401 - reason: it never returns
        raise OSError(number, os.strerror(number))

    return call


def interrupts() -> Callable[..., Any]:
    def call(*_: object, **__: object) -> Any:  # noqa: ANN401 - reason: it never returns
        raise KeyboardInterrupt

    return call


@contextmanager
def ctrl_c() -> Generator[Callable[[], None]]:
    """Give what another thread presses Ctrl-C with: until it is heard, because a signal that comes just before
    the interpreter begins to wait is not; and it is heard once."""
    heard = threading.Event()

    def hear(number: int, _: object) -> None:
        if not heard.is_set():
            heard.set()
            signal.default_int_handler(number, None)

    def press() -> None:
        while not heard.wait(0.01):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield press
    finally:
        signal.signal(signal.SIGINT, before)


class TestInterruption:
    """Ctrl-C at whatever point leaves neither a lock nor a request behind; other signals do not disturb."""

    def test_ctrl_c_while_waiting_withdraws_the_request(self, tmp_path: Path, lock: StoreLock, flocks: Flocks) -> None:
        with held_elsewhere(tmp_path), ctrl_c() as press:
            flocks.on_ask = press
            with pytest.raises(KeyboardInterrupt):
                lock.hold(deadline_s=PATIENCE_S).__enter__()
            assert not turnstile(lock)._waiting
        within(flocks.freed)
        assert is_free(tmp_path)
        flocks.on_ask = lambda: None
        with lock.hold():
            assert lock.held

    def test_ctrl_c_after_the_lock_has_come_releases_it(
        self, tmp_path: Path, lock: StoreLock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(lock_module, "_Turn", partial(TurnWithGate, interrupts()))
            with pytest.raises(KeyboardInterrupt):
                lock.hold().__enter__()
        assert is_free(tmp_path)
        with lock.hold():
            assert lock.held

    def test_ctrl_c_while_releasing_releases_all_the_same(
        self, tmp_path: Path, lock: StoreLock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release = lock_file.LockFile.unlock

        def once(_: lock_file.LockFile) -> None:
            monkeypatch.setattr(lock_file.LockFile, "unlock", release)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), lock.hold():
            monkeypatch.setattr(lock_file.LockFile, "unlock", once)
        assert is_free(tmp_path)
        with lock.hold():
            assert lock.held

    def test_a_hold_that_nobody_left_is_released_when_it_is_dropped(
        self, tmp_path: Path, lock: StoreLock, flocks: Flocks
    ) -> None:
        hold = lock.hold()
        hold.__enter__()
        assert not is_free(tmp_path)
        del hold
        within(flocks.freed)
        assert is_free(tmp_path)
        with lock.hold(deadline_s=PATIENCE_S):
            assert lock.held

    def test_a_signal_does_not_end_the_wait(self, tmp_path: Path, lock: StoreLock, flocks: Flocks) -> None:
        handled: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, _: handled.append(number))
        try:
            with held_elsewhere(tmp_path):
                waiting = start(partial(hold_briefly, lock, bool))
                within(flocks.asked)
                helper = turnstile(lock)._thread
                assert helper is not None
                assert helper.ident is not None
                for _ in range(10):
                    signal.pthread_kill(helper.ident, signal.SIGUSR1)
                assert waiting.is_alive()
            join(waiting)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert set(handled) == {signal.SIGUSR1}
        assert flocks.calls == [fcntl.LOCK_EX, fcntl.LOCK_UN]


class TestFile:
    """The lock is of the file that has the name now; the file says who holds it, and is never removed."""

    def test_a_file_removed_between_two_holds_is_made_anew(self, tmp_path: Path, lock: StoreLock) -> None:
        with lock.hold():
            pass
        lock.path.unlink()
        with lock.hold():
            assert not is_free(tmp_path)

    def test_a_file_replaced_between_two_holds_is_the_one_to_lock(self, tmp_path: Path, lock: StoreLock) -> None:
        with lock.hold():
            pass
        (tmp_path / "new").touch()
        (tmp_path / "new").rename(lock.path)
        with lock.hold():
            assert not is_free(tmp_path)

    def test_a_file_replaced_during_the_wait_is_the_one_to_lock(
        self, tmp_path: Path, lock: StoreLock, flocks: Flocks
    ) -> None:
        free: list[bool] = []
        with held_elsewhere(tmp_path):
            waiting = start(partial(hold_briefly, lock, lambda: free.append(is_free(tmp_path))))
            within(flocks.asked)
            (tmp_path / "new").touch()
            (tmp_path / "new").rename(lock.path)
            assert is_free(tmp_path)
        join(waiting)
        assert free == [False]
        assert flocks.calls == [fcntl.LOCK_EX, fcntl.LOCK_EX, fcntl.LOCK_UN]

    def test_it_says_who_holds_it_and_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/tstore", "sync"])
        lock = StoreLock.of(tmp_path)
        (tmp_path / LOCK_NAME).write_text("123456789 a longer text of somebody else\n")
        with lock.hold():
            pass
        del lock
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()} tstore\n"

    @pytest.mark.parametrize(
        ("argv", "command"),
        [
            (["/site-packages/pytest/__main__.py"], "pytest"),
            (["-c"], "-c"),
            ([""], "python"),
            ([], "python"),
            (None, "python"),
            (["x" * 500], "x" * 60),
            (["/bin/two\nlines"], "two"),
            (["/bin/\x1b[2J\udcff"], "?[2J?"),
        ],
    )
    def test_the_command_is_short_and_plain(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str] | None, command: str
    ) -> None:
        if argv is None:
            monkeypatch.delattr(sys, "argv")
        else:
            monkeypatch.setattr(sys, "argv", argv)
        lock = StoreLock.of(tmp_path)
        with lock.hold():
            assert lock.path.read_text() == f"{os.getpid()} {command}\n"

    def test_a_holder_who_stands_there_already_is_not_written_again(self, lock: StoreLock) -> None:
        with lock.hold():
            pass
        os.utime(lock.path, ns=(1, 1))
        with lock.hold():
            assert lock.path.stat().st_mtime_ns == 1

    def test_a_full_disk_does_not_stop_it(
        self, tmp_path: Path, lock: StoreLock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "write", fails(errno.ENOSPC))
        with lock.hold():
            assert not is_free(tmp_path)

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        store = tmp_path / "store"
        store.mkdir()
        precious = tmp_path / "precious"
        precious.write_text("not a lock file")
        (store / LOCK_NAME).symlink_to(precious)
        with pytest.raises(OSError, match=LOCK_NAME) as caught:
            StoreLock.of(store).hold().__enter__()
        assert caught.value.errno == errno.ELOOP
        assert precious.read_text() == "not a lock file"


class TestRefusals:
    """What cannot be locked is refused with the reason, and tried afresh by the next caller."""

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
    def test_a_read_only_directory_says_so(self, lock: StoreLock, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fails(number))
            with pytest.raises(StoreReadOnlyError, match="cannot be written") as caught:
                lock.hold().__enter__()
        assert caught.value.path == str(lock.path)
        assert caught.value.reason == os.strerror(number)
        with lock.hold():
            assert lock.held

    @pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="permissions do not bind root")
    def test_a_directory_without_write_permission_is_read_only(self, tmp_path: Path) -> None:
        store = tmp_path / "store"
        store.mkdir(mode=0o500)
        with pytest.raises(StoreReadOnlyError):
            StoreLock.of(store).hold().__enter__()

    def test_a_directory_that_does_not_exist_is_no_store(self, tmp_path: Path) -> None:
        lock = StoreLock.of(tmp_path / "store")
        with pytest.raises(NoStoreError) as caught:
            lock.hold().__enter__()
        assert caught.value.path == str(tmp_path / "store")
        (tmp_path / "store").mkdir()
        with lock.hold():
            assert lock.held

    def test_a_file_in_the_directorys_place_is_no_store(self, tmp_path: Path) -> None:
        (tmp_path / "store").touch()
        with pytest.raises(NoStoreError):
            StoreLock.of(tmp_path / "store").hold().__enter__()

    def test_a_file_system_without_locks_says_so(self, lock: StoreLock, flocks: Flocks) -> None:
        flocks.on_ask = fails(errno.ENOLCK)
        with pytest.raises(OSError, match=LOCK_NAME) as caught:
            lock.hold().__enter__()
        assert caught.value.errno == errno.ENOLCK
        flocks.on_ask = lambda: None
        with lock.hold():
            assert lock.held

    def test_what_fails_after_locking_leaves_no_lock(
        self, tmp_path: Path, lock: StoreLock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", fails(errno.EIO))
            with pytest.raises(OSError, match=LOCK_NAME):
                lock.hold().__enter__()
        assert is_free(tmp_path)

    def test_an_error_that_is_not_the_systems_is_raised_as_it_is(self, lock: StoreLock, flocks: Flocks) -> None:
        def surprise() -> None:
            raise LookupError("surprise")

        flocks.on_ask = surprise
        with pytest.raises(LookupError, match="surprise"):
            lock.hold().__enter__()

    def test_one_callers_error_is_not_the_next_ones(self, tmp_path: Path, lock: StoreLock, flocks: Flocks) -> None:
        came = watch_arrivals(lock)
        failures = [errno.ENOLCK]
        go_on = threading.Event()
        served: list[object] = []

        def ask() -> None:
            assert go_on.wait(PATIENCE_S)
            if failures:
                fails(failures.pop())()

        def first() -> None:
            with pytest.raises(OSError, match=LOCK_NAME):
                lock.hold(deadline_s=PATIENCE_S).__enter__()
            served.append("refused")

        flocks.on_ask = ask
        refused = start(first)
        within(came)
        second = start(partial(hold_briefly, lock, lambda: served.append(is_free(tmp_path))))
        within(came)
        go_on.set()
        join(refused, second)
        assert sorted(map(str, served)) == ["False", "refused"]

    def test_an_error_with_nobody_left_to_hear_it_wedges_nothing(self, lock: StoreLock, flocks: Flocks) -> None:
        go_on = threading.Event()

        def ask() -> None:
            assert go_on.wait(PATIENCE_S)
            flocks.on_ask = lambda: None
            fails(errno.ENOLCK)()

        flocks.on_ask = ask
        with pytest.raises(StoreLockedError):
            lock.hold(deadline_s=0).__enter__()
        within(flocks.asked)
        failed = threading.Event()
        turnstile(lock)._calls.put(failed.set)
        go_on.set()
        assert failed.wait(PATIENCE_S)
        with lock.hold(deadline_s=PATIENCE_S):
            assert lock.held

    def test_a_descriptor_that_somebody_closed_is_replaced(self, tmp_path: Path, lock: StoreLock) -> None:
        with lock.hold():
            descriptor = turnstile(lock)._file._descriptor
            assert descriptor is not None
            os.close(descriptor)
        with pytest.raises(OSError, match=LOCK_NAME) as caught:
            lock.hold().__enter__()
        assert caught.value.errno == errno.EBADF
        with lock.hold():
            assert not is_free(tmp_path)


class TestHelper:
    """The helper thread is there when it is needed, and gone when the lock is."""

    def test_nothing_is_opened_loaded_or_started_before_the_first_hold(self, tmp_path: Path) -> None:
        script = """
import sys, threading
from pathlib import Path
from taskstore_async.storage.lock import StoreLock
lock = StoreLock.of(Path(sys.argv[1]))
print("portalocker" in sys.modules, threading.active_count(), lock.path.exists(), lock.held)
"""
        with program(script, tmp_path) as other:
            assert said(other) == "False 1 False False"

    def test_one_thread_serves_all_holds_and_is_a_daemon(self, lock: StoreLock) -> None:
        helpers: set[threading.Thread | None] = set()
        for _ in range(3):
            with lock.hold():
                helpers.add(turnstile(lock)._thread)
        (helper,) = helpers
        assert helper is not None
        assert helper.daemon
        assert helper.name == THREAD_NAME

    def test_thread_and_descriptor_end_with_the_last_handle(self, tmp_path: Path) -> None:
        lock = StoreLock.of(tmp_path)
        other_handle = StoreLock.of(tmp_path)
        with lock.hold():
            pass
        thread, descriptor = turnstile(lock)._thread, turnstile(lock)._file._descriptor
        assert thread is not None
        assert descriptor is not None
        del lock
        assert thread.is_alive()
        del other_handle
        assert not thread.is_alive()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        assert descriptor not in lock_file.descriptors

    def test_a_lock_that_raised_is_not_kept_alive_by_its_thread(self, tmp_path: Path) -> None:
        lock = StoreLock.of(tmp_path)
        with held_elsewhere(tmp_path), pytest.raises(StoreLockedError), lock.hold(deadline_s=0):
            pass
        thread = turnstile(lock)._thread
        assert thread is not None
        del lock
        gc.collect()  # pytest keeps the error, and its frames, in a cycle
        join(thread)

    def test_a_thread_that_still_waits_ends_when_the_lock_comes(self, tmp_path: Path, flocks: Flocks) -> None:
        lock = StoreLock.of(tmp_path)
        with held_elsewhere(tmp_path):
            with pytest.raises(StoreLockedError):
                lock.hold(deadline_s=0).__enter__()
            within(flocks.asked)
            thread = turnstile(lock)._thread
            assert thread is not None
            del lock
            gc.collect()
            assert thread.is_alive()
            again = StoreLock.of(tmp_path)  # meanwhile the directory has a new one, independent of it
            assert turnstile(again)._thread is None
        join(thread)
        assert is_free(tmp_path)

    def test_a_thread_that_waits_does_not_hold_the_interpreter(self, tmp_path: Path) -> None:
        script = """
import sys
from pathlib import Path
from taskstore_async.errors import StoreLockedError
from taskstore_async.storage.lock import StoreLock
lock = StoreLock.of(Path(sys.argv[1]))
try:
    lock.hold(deadline_s=0).__enter__()
except StoreLockedError:
    print("gave up", flush=True)
"""
        with held_elsewhere(tmp_path), program(script, tmp_path) as other:
            assert said(other) == "gave up"
            assert other.wait(PATIENCE_S) == 0

    def test_a_thread_that_cannot_be_started_is_started_by_the_next_caller(
        self, lock: StoreLock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                lock.hold().__enter__()
        with lock.hold():
            assert lock.held

    def test_it_shows_which_file_it_is(self, lock: StoreLock) -> None:
        assert repr(lock) == f"StoreLock({str(lock.path)!r})"


def in_child(function: Callable[[], str]) -> str:
    """Fork; call *function* in the child and return what it said."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks is the point
        child = os.fork()
    if child == 0:
        said = "failed"
        try:
            said = function()
        except BaseException as error:  # noqa: BLE001 - reason: nothing may leave the child
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, said.encode())
            save_coverage()
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def save_coverage() -> None:
    """Keep what a forked child has covered, when that is measured: it ends without the usual goodbye."""
    if "coverage" in sys.modules:
        running = sys.modules["coverage"].Coverage.current()
        if running is not None:
            running.stop()
            running.save()


FORKS_AND_HOLDS = """
import os, sys
from pathlib import Path
from taskstore_async.storage.lock import StoreLock
with StoreLock.of(Path(sys.argv[1])).hold():
    if os.fork() == 0:
        print("forked", flush=True)
        sys.stdin.read()
        os._exit(0)
    os.kill(os.getpid(), 9)
"""


class TestFork:
    """A forked child has a lock of its own, and neither uses nor disturbs its parent's."""

    def test_the_child_waits_for_its_parent_like_any_process(self, tmp_path: Path, lock: StoreLock) -> None:
        def child() -> str:
            own = StoreLock.of(tmp_path)
            try:
                own.hold(deadline_s=0).__enter__()
            except StoreLockedError as error:
                return f"{own is not lock} {own.held} {lock.held} {error.holder}"
            return "got it"

        with lock.hold():
            said = in_child(child)
            assert said.startswith(f"True False False process {os.getpid()} (")

    def test_the_child_can_lock_when_its_parent_does_not(self, tmp_path: Path, lock: StoreLock) -> None:
        def child() -> str:
            with (own := StoreLock.of(tmp_path)).hold(deadline_s=PATIENCE_S):
                return f"{own.held} {is_free(tmp_path)} {own.path.read_text().partition(' ')[0] == str(os.getpid())}"

        with lock.hold():
            pass
        assert in_child(child) == "True False True"

    def test_the_parents_lock_is_closed_to_the_child(self, lock: StoreLock) -> None:
        def child() -> str:
            with lock.hold():
                return "got it"

        with lock.hold():
            pass
        assert in_child(child).startswith(
            f"{StoreClosedError.__name__}: this store handle cannot be used: the process has forked"
        )

    def test_a_child_that_leaves_its_parents_block_unlocks_nothing(
        self, tmp_path: Path, lock: StoreLock, flocks: Flocks
    ) -> None:
        hold = lock.hold()

        def child() -> str:
            hold.__exit__(None, None, None)
            return f"{is_free(tmp_path)} {flocks.calls == [fcntl.LOCK_EX]}"

        with hold:
            assert in_child(child) == "False True"
            assert not is_free(tmp_path)
            assert lock.held

    def test_a_child_that_drops_its_parents_lock_disturbs_nothing(self, tmp_path: Path) -> None:
        handles = [StoreLock.of(tmp_path)]
        holds = [handles[0].hold()]
        parents = turnstile(handles[0])

        def child() -> str:
            holds.clear()
            handles.clear()
            return str(parents._calls.qsize())  # nobody is there to serve what was put

        holds[0].__enter__()  # a with statement would keep it in the child too
        assert in_child(child) == "0"
        assert not is_free(tmp_path)
        holds[0].__exit__(None, None, None)

    def test_the_child_closes_its_copy_of_the_descriptor(self, lock: StoreLock) -> None:
        with lock.hold():
            descriptor = turnstile(lock)._file._descriptor
            assert descriptor is not None
            assert "Bad file descriptor" in in_child(lambda: str(os.fstat(descriptor)))
            os.fstat(descriptor)

    def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(self, tmp_path: Path, lock: StoreLock) -> None:
        with program(FORKS_AND_HOLDS, tmp_path) as other:
            assert said(other) == "forked"
            other.wait()
            with lock.hold(deadline_s=PATIENCE_S):
                assert lock.held
            pipe(other.stdin).close()  # only now the child ends

    def test_no_fork_falls_between_a_descriptor_and_its_entry(self, lock: StoreLock) -> None:
        # The helper opens under the guard that a fork takes first: with the guard taken, nothing is opened.
        with lock_file.guard:
            with pytest.raises(StoreLockedError):
                lock.hold(deadline_s=0).__enter__()
            assert not lock.path.exists()
        with lock.hold(deadline_s=PATIENCE_S):
            assert lock.held
