"""What git does around the store: it is told by its files, and what it overwrote unseen is appended again."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from taskstore_async.core.record import Document
from taskstore_async.core.schedule import Durability, SyncConfig
from taskstore_async.storage.git import Git
from taskstore_async.storage.polling import Poller
from taskstore_async.storage.store import Store
from taskstore_async.storage.unseen import WINDOW_NS, Unseen, first_unseen, noted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

S = 1_000_000_000


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    return tmp_path


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class TestGit:
    """That git is at work is told by its files alone."""

    def test_there_is_none(self, tmp_path: Path) -> None:
        git = Git(tmp_path)
        (tmp_path / "file").touch()
        status = (tmp_path / "file").stat()
        assert git.folder is None
        assert git.busy is None
        assert not git.wrote(status)
        assert not git.held_its_index(status)
        assert not git.may_be_merging()

    def test_it_holds_its_index(self, repository: Path) -> None:
        assert Git(repository / "in").busy is False
        (repository / ".git" / "index.lock").touch()
        assert Git(repository / "in").busy is True

    @pytest.mark.parametrize("absolute", [True, False])
    def test_in_a_linked_worktree(self, tmp_path: Path, *, absolute: bool) -> None:
        own, tree = tmp_path / "own", tmp_path / "tree"
        own.mkdir()
        tree.mkdir()
        (tree / ".git").write_text(f"gitdir: {own if absolute else '../own'}\n")
        assert Git(tree).busy is False
        (own / "index.lock").touch()
        assert Git(tree).busy is True
        (tree / ".git").write_text("nonsense")
        assert Git(tree).folder is None

    def test_a_repository_is_noticed_when_it_comes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        git = Git(tmp_path)
        assert git.folder is None
        (tmp_path / ".git").mkdir()
        later_s = time.monotonic() + 1
        monkeypatch.setattr(time, "monotonic", lambda: later_s)
        assert git.folder == tmp_path / ".git"

    def test_one_that_cannot_be_looked_at_keeps_nobody_from_anything(self, tmp_path: Path) -> None:
        (tmp_path / ".git").write_text(f"gitdir: {'x' * 1_000}")  # as one that belongs to somebody else: a stat fails
        git = Git(tmp_path)
        assert git.busy is False
        assert not git.may_be_merging()
        with Store.open(tmp_path, sync=SyncConfig(debounce_ms=0, max_delay_ms=0)) as store:
            store.put(Document("plans", {"id": "a"}), durability=Durability.JOURNAL)
            store.put(Document("plans", {"id": "b"}))
            assert store.ids("plans") == ["a", "b"]
            assert store.notes == ()
            assert store.flush().lines == 0

    def test_where_it_was_is_known_while_nobody_can_look(
        self, repository: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        git = Git(repository)
        assert git.folder == repository / ".git"
        later_s = time.monotonic() + 1
        monkeypatch.setattr(time, "monotonic", lambda: later_s)
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", refuse)
            assert git.folder == repository / ".git"

    def test_a_merge_has_begun(self, repository: Path) -> None:
        head, log = repository / ".git" / "ORIG_HEAD", repository / ".git" / "logs" / "HEAD"
        log.parent.mkdir(exist_ok=True)
        log.touch()
        head.touch()
        now_s = time.time()
        os.utime(log, (now_s - 2, now_s - 2))
        assert Git(repository).may_be_merging()
        conflict = repository / ".git" / "MERGE_HEAD"
        conflict.touch()
        os.utime(conflict, (now_s + 1, now_s + 1))  # and has left it to a person
        assert not Git(repository).may_be_merging()
        conflict.unlink()
        os.utime(log, (now_s + 1, now_s + 1))  # and has ended
        assert not Git(repository).may_be_merging()
        (repository / ".git" / "index.lock").touch()
        assert Git(repository).may_be_merging()
        (repository / ".git" / "index.lock").unlink()
        os.utime(log, (now_s - 60, now_s - 60))
        os.utime(head, (now_s - 50, now_s - 50))  # and was broken off
        assert not Git(repository).may_be_merging()

    def test_it_wrote_a_file_when_its_index_is_newer(self, repository: Path) -> None:
        file, index = repository / "file", repository / ".git" / "index"
        file.touch()
        index.touch()
        now_s = time.time()
        os.utime(file, (now_s, now_s))
        os.utime(index, (now_s - 1, now_s - 1))
        assert not Git(repository).wrote(file.stat())
        os.utime(index, (now_s, now_s))
        assert Git(repository).wrote(file.stat())

    @pytest.mark.parametrize(
        ("command", "held"),
        [
            (("checkout", "-q", "other"), True),
            (("reset", "-q", "--hard", "other"), False),
            (("rebase", "-q", "other"), False),
            (("merge", "-q", "-m", "m", "other"), False),
            (("merge", "-q", "--ff-only", "ahead"), False),
        ],
    )
    def test_which_commands_are_known_to_hold_it_all_the_time(
        self, repository: Path, command: tuple[str, ...], *, held: bool
    ) -> None:
        file = repository / "file"
        git(repository, "commit", "-q", "--allow-empty", "-m", "root")
        for branch in ("other", "ahead"):
            git(repository, "checkout", "-q", "-b", branch, "main")
            file.write_text(branch)
            git(repository, "add", "file")
            git(repository, "commit", "-q", "-m", branch)
        git(repository, "checkout", "-q", "main")
        if "ahead" not in command:
            git(repository, "commit", "-q", "--allow-empty", "-m", "ours")
        log = repository / ".git" / "logs" / "HEAD"
        log.write_bytes(b"")  # a second is as near as it tells the time
        git(repository, *command)
        status = file.stat()
        assert Git(repository).wrote(status)
        assert Git(repository).held_its_index(status) is held

    def test_a_merge_that_failed_leaves_no_word(self, repository: Path) -> None:
        file = repository / "file"
        git(repository, "commit", "-q", "--allow-empty", "-m", "root")
        git(repository, "checkout", "-q", "-b", "other")
        file.touch()
        (repository / ".git" / "ORIG_HEAD").touch()
        assert not Git(repository).held_its_index(file.stat())
        os.utime(repository / ".git" / "ORIG_HEAD", (1, 1))
        assert Git(repository).held_its_index(file.stat())


class TestSpells:
    """What was appended within two seconds before is noted, in few words."""

    def test_appends_of_one_second_are_one_spell(self) -> None:
        unseen = noted((), flushed=7, now_ns=10 * S, busy=False)
        for tenth in range(1, 10):
            unseen = noted(unseen, flushed=7 + tenth, now_ns=10 * S + tenth * S // 10, busy=False)
        assert unseen == ((7, 10 * S, False),)
        assert noted(unseen, flushed=30, now_ns=11 * S + 1, busy=False) == (*unseen, (30, 11 * S + 1, False))
        assert noted(unseen, flushed=30, now_ns=10 * S, busy=True) == (*unseen, (30, 10 * S, True))

    def test_old_ones_go_and_there_are_never_many(self) -> None:
        unseen: Unseen = ()
        for tenth in range(1_000):
            unseen = noted(unseen, flushed=tenth, now_ns=tenth * S // 10, busy=tenth % 2 == 0)
            assert len(unseen) <= 8
        assert noted(unseen, flushed=5_000, now_ns=500 * S, busy=False) == ((5_000, 500 * S, False),)

    def test_every_append_of_the_last_two_seconds_is_above_the_mark(self) -> None:
        unseen: Unseen = ()
        marks: dict[int, int] = {}
        for step in range(200):
            now_ns = step * S // 7
            unseen = noted(unseen, flushed=step, now_ns=now_ns, busy=False)
            marks[now_ns] = step
            first = first_unseen(unseen, replaced_ns=now_ns, while_busy=False)
            assert first is not None
            assert first <= min(mark for at_ns, mark in marks.items() if at_ns >= now_ns - WINDOW_NS)
            assert first >= min(mark for at_ns, mark in marks.items() if at_ns >= now_ns - 2 * WINDOW_NS)

    def test_nothing_is_unseen_by_who_came_late(self) -> None:
        assert first_unseen(noted((), flushed=1, now_ns=S, busy=False), replaced_ns=5 * S, while_busy=False) is None
        assert first_unseen((), replaced_ns=0, while_busy=False) is None

    def test_who_held_the_index_overlooked_what_came_meanwhile_only(self) -> None:
        unseen = noted(noted((), flushed=1, now_ns=S, busy=False), flushed=2, now_ns=S, busy=True)
        assert first_unseen(unseen, replaced_ns=S, while_busy=False) == 1
        assert first_unseen(unseen, replaced_ns=S, while_busy=True) == 2


@pytest.fixture
def store(repository: Path) -> Iterator[Store]:
    with Store.open(repository, sync=SyncConfig(auto_export=False)) as store:
        store.put(Document("plans", {"id": "committed"}), durability=Durability.JOURNAL)
        yield store


def git(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    identity = ("-c", "user.name=n", "-c", "user.email=n@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, env=environment)


def git_replaces(store: Store, data: bytes, *, later_s: float = 0, words: str = "merge side: Merge made") -> None:
    """Be ``git merge``, which writes what it made of the file that it looked at a while ago, and then its index."""
    path = store.path / "plans.jsonl"
    path.unlink()
    path.write_bytes(data)
    at_s = time.time() + later_s
    os.utime(path, (at_s, at_s))
    index = store.path.parent / ".git" / "index"
    index.touch()
    os.utime(index, (at_s, at_s))
    log = store.path.parent / ".git" / "logs" / "HEAD"
    log.parent.mkdir(exist_ok=True)
    log.write_text(f"{'0' * 40} {'1' * 40} n <n@example.org> {int(at_s)} +0000\t{words}\n")


class TestOverwritten:
    """What git overwrote without having seen it is no removal: it is appended again."""

    def seen_by_git(self, store: Store) -> bytes:
        data = (store.path / "plans.jsonl").read_bytes()
        store.put(Document("plans", {"id": "late"}), durability=Durability.JOURNAL)
        return data

    def test_by_the_next_look(self, store: Store) -> None:
        git_replaces(store, self.seen_by_git(store) + b'{"id":"merged","updated_at":5}\n')
        report = store.sync().collections["plans"]
        assert (report.removed, report.flushed) == (0, 1)
        late = store.line("plans", "late")
        assert late is not None
        assert (store.path / "plans.jsonl").read_bytes().splitlines()[-2:] == [b'{"id":"merged","updated_at":5}', late]
        assert store.check().ok

    def test_by_the_next_write(self, store: Store) -> None:
        git_replaces(store, self.seen_by_git(store) + b'{"id":"merged","updated_at":5}\n')
        store.put(Document("plans", {"id": "later"}), durability=Durability.JOURNAL)
        assert [record.id for record in store.list("plans")] == ["committed", "late", "later", "merged"]
        assert store.check().ok

    def test_by_another_handle(self, store: Store) -> None:
        data = self.seen_by_git(store)
        with Store.open(store.path) as other:
            git_replaces(store, data + b'{"id":"merged","updated_at":5}\n')
            assert other.sync().collections["plans"].removed == 0
            assert other.get("plans", "late") is not None
            assert other.check().ok

    def test_a_poll_has_it_flushed(self, store: Store) -> None:
        git_replaces(store, self.seen_by_git(store) + b'{"id":"merged","updated_at":5}\n')
        engine = store._engine
        engine.schedule.flushed()
        Poller()(engine)
        assert engine.schedule.waiting == 1

    def test_after_a_foreign_line(self, store: Store) -> None:
        data = self.seen_by_git(store)
        with (store.path / "plans.jsonl").open("ab") as file:
            file.write(b'{"id":"foreign","updated_at":5}\n')
        store.sync()
        git_replaces(store, data)
        assert store.sync().collections["plans"].removed == 1
        assert [record.id for record in store.list("plans")] == ["committed", "late"]

    def test_what_it_could_see_is_removed(self, store: Store) -> None:
        git_replaces(store, self.seen_by_git(store) + b'{"id":"merged","updated_at":5}\n', later_s=4)
        assert store.sync().collections["plans"].removed == 1
        assert store.get("plans", "late") is None

    def test_what_a_person_removes_is_removed(self, store: Store) -> None:
        data = self.seen_by_git(store)
        (store.path / "plans.jsonl").write_bytes(data)
        assert store.sync().collections["plans"].removed == 1

    def test_what_a_checkout_could_see_is_removed(self, store: Store) -> None:
        git_replaces(store, self.seen_by_git(store), words="checkout: moving from side to main")
        assert store.sync().collections["plans"].removed == 1

    def test_what_a_checkout_could_not_see_is_not(self, store: Store) -> None:
        data = (store.path / "plans.jsonl").read_bytes()
        lock = store.path.parent / ".git" / "index.lock"
        lock.touch()
        store.put(Document("plans", {"id": "late"}), durability=Durability.JOURNAL)
        git_replaces(store, data, words="checkout: moving from side to main")
        lock.unlink()
        store.sync()
        assert store.get("plans", "late") is not None
        assert store.check().ok

    def test_a_handle_that_is_closed_has_ended_before(self, store: Store) -> None:
        data = (store.path / "plans.jsonl").read_bytes()
        store.close()
        with Store.open(store.path) as other:
            other.put(Document("plans", {"id": "late"}))
        with Store.open(store.path) as third:
            git_replaces(third, data + b'{"id":"merged","updated_at":5}\n')
            assert third.sync().collections["plans"].removed == 1

    def test_but_not_while_git_may_be_merging(self, store: Store) -> None:
        data = (store.path / "plans.jsonl").read_bytes()
        store.close()
        (store.path.parent / ".git" / "ORIG_HEAD").touch()
        with Store.open(store.path) as other:
            other.put(Document("plans", {"id": "late"}))
        with Store.open(store.path) as third:
            git_replaces(third, data + b'{"id":"merged","updated_at":5}\n')
            assert third.sync().collections["plans"].removed == 0
            assert third.get("plans", "late") is not None
