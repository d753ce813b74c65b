"""Where a store is, and the small files beside the journals."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from taskstore_async.errors import NoStoreError, StoreReadOnlyError, StoreVersionError
from taskstore_async.storage import files
from taskstore_async.storage.directory import FORMAT, NAME, Directory
from tests.storage.test_flush import failing


class TestAt:
    """A path is the directory that holds `.taskstore/`, or a store directory itself."""

    def test_opening_makes_it_with_all_above_it(self, tmp_path: Path) -> None:
        directory = Directory.at(tmp_path / "deep" / "er", create=True)
        assert directory.path == tmp_path / "deep" / "er" / NAME
        assert (directory.path / ".version").read_text() == f"{FORMAT}\n"

    def test_a_store_directory_is_told_by_its_name_or_its_version(self, tmp_path: Path) -> None:
        made = Directory.at(tmp_path, create=True)
        assert Directory.at(tmp_path / NAME, create=False).path == made.path
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / ".version").write_text("1")
        assert Directory.at(tmp_path / "other", create=False).path == tmp_path / "other"

    def test_none_is_made_that_was_not_asked_for(self, tmp_path: Path) -> None:
        with pytest.raises(NoStoreError):
            Directory.at(tmp_path, create=False)
        assert list(tmp_path.iterdir()) == []

    def test_one_that_cannot_be_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path, *_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(StoreReadOnlyError, match=r"Permission denied.*write permission"):
            Directory.at(tmp_path / "new", create=True)

    def test_above(self, tmp_path: Path) -> None:
        assert Directory.above(tmp_path) is None
        made = Directory.at(tmp_path, create=True)
        (tmp_path / "a" / "b").mkdir(parents=True)
        for start in (tmp_path, tmp_path / "a" / "b", made.path):
            found = Directory.above(start)
            assert found is not None
            assert found.path == made.path

    def test_every_name_that_is_made_is_made_durable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Path] = []
        monkeypatch.setattr(files, "fsync_directory", seen.append)
        Directory.at(tmp_path / "deep", create=True)
        assert seen == [tmp_path / "deep", tmp_path]

    @pytest.mark.parametrize("create", [True, False])
    @pytest.mark.parametrize("below", ["", "deep", "deep/er/.taskstore"])
    def test_a_file_is_no_store(self, tmp_path: Path, below: str, *, create: bool) -> None:
        (tmp_path / "notes").touch()
        with pytest.raises(NoStoreError, match=r"^no store at .*/notes is a file, and a store is a directory; name an"):
            Directory.at(tmp_path / "notes" / below, create=create)

    @pytest.mark.parametrize("create", [True, False])
    def test_nor_is_a_file_of_its_name(self, tmp_path: Path, *, create: bool) -> None:
        (tmp_path / ".taskstore").touch()
        with pytest.raises(NoStoreError, match=r"/\.taskstore is a file, and a store is a directory"):
            Directory.at(tmp_path, create=create)


class TestVersion:
    """The first integer of `.version` counts: a missing one is written, a newer one refused."""

    @pytest.mark.parametrize("text", ["1", "1\n", "v1", " 1.7 beta", "0"])
    def test_known(self, tmp_path: Path, text: str) -> None:
        directory = Directory.at(tmp_path, create=True)
        (directory.path / ".version").write_text(text)
        Directory.at(tmp_path, create=False)
        assert (directory.path / ".version").read_text() == text

    @pytest.mark.parametrize("text", ["2", "10\n", "none", "1" * 5_000, "0" * 5_000 + "1"])
    def test_refused(self, tmp_path: Path, text: str) -> None:
        directory = Directory.at(tmp_path, create=True)
        (directory.path / ".version").write_text(text)
        with pytest.raises(StoreVersionError, match=r"upgrade taskstore-async, or restore \.version"):
            Directory.at(tmp_path, create=False)

    @pytest.mark.parametrize("text", [None, "", "\n"])
    def test_missing(self, tmp_path: Path, text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        version = Directory.at(tmp_path, create=True).path / ".version"
        version.unlink()
        if text is not None:
            version.write_text(text)
        with monkeypatch.context() as patched:
            patched.setattr(Directory, "writable", False)
            Directory.at(tmp_path, create=False)
        assert version.exists() is (text is not None)
        Directory.at(tmp_path, create=False)
        assert version.read_text() == "1\n"


class TestGit:
    """`.gitignore` and `.gitattributes` are completed, never replaced."""

    def test_what_is_there_stays(self, tmp_path: Path) -> None:
        directory = Directory.at(tmp_path, create=True)
        (directory.path / ".gitignore").write_bytes(b"# mine \xff\nstore.lock")
        directory.complete()
        directory.complete()
        directory.keep_local(["runs"])
        data = (directory.path / ".gitignore").read_bytes()
        assert data.startswith(b"# mine \xff\nstore.lock\n")
        assert data.endswith(b"runs.jsonl\n")
        assert data.count(b"store.lock") == 1
        assert "*.jsonl -text merge=tstore" in (directory.path / ".gitattributes").read_text()


def test_journals_and_strays(tmp_path: Path) -> None:
    directory = Directory.at(tmp_path, create=True)
    for name in ("b", "a", "_types", "Bad", "store"):
        (directory.path / f"{name}.jsonl").touch()
    assert directory.journals() == (["a", "b"], ["Bad.jsonl", "store.jsonl"])


def test_a_failing_fsync_of_a_directory_is_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "fsync", 5)
    with pytest.raises(OSError, match="Input/output"):
        files.fsync_directory(tmp_path)
