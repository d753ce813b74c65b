"""Long text beside its record."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async import (
    ClaimLostError,
    ContentError,
    Document,
    Durability,
    Indexed,
    InvalidRecordError,
    NotFoundError,
    Record,
    References,
    StaleWriteError,
    StateManager,
    Store,
    Unique,
    UniqueError,
    WriteFailedError,
)
from taskstore_async.core.content import file_name, slug_of
from taskstore_async.storage import files
from taskstore_async.storage.content import Contents, content_op
from taskstore_async.storage.ops import Applied, Batch, Create, Delete, Put, Refused
from tests.storage.samples import files_of

if TYPE_CHECKING:
    from collections.abc import Generator


class Prd(Record):
    collection: ClassVar[str] = "prds"
    title: str
    content: str | None = None
    file: Annotated[str | None, Unique] = None


class Spec(Record):
    collection: ClassVar[str] = "specs"
    prd_id: Annotated[str, Indexed, References("prds", on_delete="cascade")]
    phase_name: str
    file: Annotated[str | None, Unique] = None


class Plain(Record):
    collection: ClassVar[str] = "plain"
    title: str = ""


class Loose(Record):
    collection: ClassVar[str] = "loose"
    title: str = ""
    file: str | None = None


class Wordy(Record):
    collection: ClassVar[str] = "wordy"
    content: str = ""
    file: Annotated[str | None, Unique] = None


class Counted(Record):
    collection: ClassVar[str] = "counted"
    file: Annotated[int | None, Unique] = None


OAUTH = Prd(id="prd-1", title="Add OAuth Authentication")
NAME = "prds/add-oauth-authentication.md"


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path, records=[Prd, Spec]) as store:
        yield store


def texts(store: Store) -> dict[str, str]:
    """Every file of a folder in the store."""
    return {str(path.relative_to(store.path)): path.read_text() for path in sorted(store.path.glob("*/*"))}


def strays(store: Store) -> list[str | None]:
    return [one.file for one in store.check().problems if one.kind == "stray"]


class TestNames:
    """A file is named after its record, in letters that every file system has."""

    @pytest.mark.parametrize(
        ("title", "slug"),
        [
            ("Add OAuth Authentication", "add-oauth-authentication"),
            ("  Here's: a/../test!  ", "heres-a-test"),
            ("Größe über alles", "groe-uber-alles"),
            ("日本", "fallback"),
            ("...", "fallback"),
            (None, "fallback"),
            (7, "fallback"),
            ("CON", "con-file"),
            ("x" * 100, "x" * 80),
            ("x" * 79 + " y", "x" * 79),
        ],
    )
    def test_slug(self, title: object, slug: str) -> None:
        assert slug_of(title, "Fallback") == slug

    def test_there_is_always_a_name(self) -> None:
        assert slug_of(None, "!") == "untitled"

    @given(st.text())
    def test_a_slug_is_a_file_of_the_store_whatever_the_title(self, title: str) -> None:
        slug = slug_of(title)
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug)
        assert file_name("prds", f"prds/{slug}.md") == f"{slug}.md"

    @pytest.mark.parametrize(
        "value",
        [
            "prds/../x.md",
            "../prds/x.md",
            "/prds/x.md",
            "prds/a/x.md",
            "prds/.x.md",
            "prds/..md",
            "prds\\x.md",
            "prds/a\\x.md",
            "prds/x.txt",
            "prds/x\n.md",
            "prds/",
            "x.md",
            "specs/x.md",
            "",
            7,
            None,
        ],
    )
    def test_whatever_leads_elsewhere_is_no_file_of_the_store(self, value: object) -> None:
        assert file_name("prds", value) is None


class TestWriting:
    """The text is durable, under a name of its own, before the record that names it."""

    def test_a_new_record_is_created_with_its_text(self, store: Store) -> None:
        prd = store.write_content(OAUTH, "# Why\n")
        assert prd.file == NAME
        assert store.get(Prd, "prd-1") == prd
        assert texts(store) == {NAME: "# Why\n"}
        assert store.read_content(prd) == "# Why\n"

    def test_a_second_one_of_that_name_is_numbered(self, store: Store) -> None:
        for number in (1, 2, 3):
            store.write_content(Prd(id=f"prd-{number}", title="Add OAuth Authentication"), f"{number}")
        assert texts(store) == {NAME: "1", NAME.replace(".", "-2."): "2", NAME.replace(".", "-3."): "3"}

    def test_two_in_one_transaction_get_two_files(self, store: Store) -> None:
        again = Prd(id="prd-2", title=OAUTH.title)
        ops = [content_op(store._draft(OAUTH), "one"), content_op(store._draft(again), "two")]
        store._engine.commit(ops, durability=Durability.INDEX)
        assert texts(store) == {NAME: "one", NAME.replace(".", "-2."): "two"}
        assert store.check().problems == ()

    def test_a_stored_record_is_updated_and_keeps_its_file(self, store: Store) -> None:
        prd = store.write_content(store.create(OAUTH), "one")
        prd = store.write_content(prd.evolve(title="Another title"), "two")
        assert (prd.file, prd.title) == (NAME, "Another title")
        assert texts(store) == {NAME: "two"}

    def test_the_text_stands_once(self, store: Store) -> None:
        prd = store.create(OAUTH.evolve(content="short"))
        assert store.read_content(prd) == "short"
        prd = store.write_content(prd, "long")
        assert prd.content is None
        assert store.read_content(prd) == "long"

    def test_a_spec_is_named_after_its_phase_and_a_record_without_a_title_after_its_id(self, store: Store) -> None:
        store.create(OAUTH)
        assert store.write_content(Spec(id="s-1", prd_id="prd-1", phase_name="Phase 1"), "").file == "specs/phase-1.md"
        assert store.write_content(Document("prds", {"id": "P 9"}), "x")["file"] == "prds/p-9.md"

    def test_a_name_that_is_given_is_taken_but_never_somebody_elses(self, store: Store) -> None:
        (store.path / "prds").mkdir()
        (store.path / "prds" / "mine.md").write_text("by hand")
        assert store.write_content(OAUTH.evolve(file="prds/mine.md"), "x").file == "prds/mine-2.md"
        assert store.write_content(Prd(id="b", title="b", file="prds/own.md"), "y").file == "prds/own.md"
        assert (store.path / "prds" / "mine.md").read_text() == "by hand"

    def test_a_file_that_is_named_and_not_there_is_nobody_elses_either(self, store: Store) -> None:
        store.create(OAUTH.evolve(file=NAME))
        assert store.write_content(Prd(id="b", title=OAUTH.title), "x").file == NAME.replace(".", "-2.")

    def test_what_is_refused_has_written_nothing(self, store: Store) -> None:
        prd = store.write_content(OAUTH, "one")
        store.update(prd.evolve(title="x"))
        with pytest.raises(StaleWriteError):
            store.write_content(prd, "two")
        with pytest.raises(NotFoundError):
            store.write_content(Document("prds", {"id": "gone", "updated_at": 7}), "three")
        assert texts(store) == {NAME: "one"}

    def test_only_the_owner_writes_under_a_lease(self, store: Store) -> None:
        store.create(OAUTH)
        lease = store.claim(Prd, owner="me")
        assert lease is not None
        prd = store.write_content(lease.record, "mine", token=lease.token)
        store.release(Prd, prd.id, token=lease.token)
        with pytest.raises(ClaimLostError):
            store.write_content(prd, "late", token=lease.token)
        assert texts(store) == {NAME: "mine"}

    @pytest.mark.parametrize("value", ["../x.md", "/etc/passwd", "specs/x.md", "prds/x"])
    def test_a_record_that_names_something_else_is_refused(self, store: Store, value: str) -> None:
        prd = store.create(OAUTH.evolve(file=value))
        with pytest.raises(InvalidRecordError, match=r"is no file of the store: those are prds/NAME.md - at \$.file"):
            store.write_content(prd, "x")

    def test_a_type_without_a_unique_file_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidRecordError, match="add file: Annotated"):
            store.write_content(Plain(id="x"), "x")
        with pytest.raises(InvalidRecordError, match="loose does not declare it unique"):
            store.write_content(Loose(id="x"), "x")
        assert store.count(Loose) == 0

    @pytest.mark.parametrize("record", [Wordy(id="a", content="old"), Counted(id="a")])
    def test_a_type_that_could_not_be_read_any_more_is_refused(self, store: Store, record: Wordy | Counted) -> None:
        stored = store.create(record)
        before = files_of(store)
        with pytest.raises(InvalidRecordError, match=f"{type(record).__name__} could not read it.*nothing was written"):
            store.write_content(stored, "text")
        assert store.get(type(record), "a") == stored
        assert files_of(store) == before

    def test_what_is_no_text_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidRecordError, match="a lone surrogate at position 1"):
            store.write_content(OAUTH, "a\ud800")

    def test_a_file_belongs_to_one_record(self, store: Store) -> None:
        store.write_content(OAUTH, "x")
        with pytest.raises(UniqueError):
            store.create(Prd(id="b", title="b", file=NAME))

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="what a descriptor is open on is not told here")
    def test_it_is_fsynced_and_named_before_the_commit(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[str] = []
        fsync = files.fsync

        def noted(descriptor: int) -> None:
            name = os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), store.path)
            seen.append(f"fsync {re.sub(r'[.][0-9]+[.]tmp', '.tmp', name)}")
            fsync(descriptor)

        store.flush()
        index = store._engine.connections.index
        assert index is not None
        monkeypatch.setattr(files, "fsync", noted)
        index.db.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
        store.write_content(OAUTH, "x")
        index.db.set_trace_callback(None)
        before = seen[: seen.index("COMMIT")]
        assert before == ["fsync .", f"fsync {NAME}.tmp", "fsync prds"]

    def test_a_disk_that_fails_changes_nothing(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        prd = store.write_content(OAUTH, "one")

        def fail(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(files, "fsync", fail)
            with pytest.raises(WriteFailedError, match="No space left"):
                store.write_content(prd, "two")
        assert store.get(Prd, "prd-1") == prd
        assert texts(store)[NAME] == "one"
        store.write_content(prd, "three")  # and what the failure left is taken away
        assert texts(store) == {NAME: "three"}

    def test_a_transaction_that_fails_changes_nothing(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        prd = store.write_content(OAUTH, "one")

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(Contents, "settle", fail)
            with pytest.raises(WriteFailedError):
                store.write_content(prd, "two")
        assert store.get(Prd, "prd-1") == prd
        assert texts(store)[NAME] == "one"


class TestReading:
    """It is read when it is asked for, and never outside of the store."""

    def test_nothing_is_none(self, store: Store) -> None:
        assert store.read_content(OAUTH) is None
        assert store.read_content(Plain(id="x")) is None
        assert store.read_content(Document("prds", {"id": "x", "content": 7})) is None

    def test_a_person_may_edit_it(self, store: Store) -> None:
        prd = store.write_content(OAUTH, "one")
        (store.path / NAME).write_bytes("two\r\nü".encode())
        assert store.read_content(prd) == "two\r\nü"

    def test_a_file_that_is_gone_is_told(self, store: Store) -> None:
        prd = store.write_content(OAUTH, "one")
        (store.path / NAME).unlink()
        with pytest.raises(ContentError, match=r"No such file or directory\); restore the file") as caught:
            store.read_content(prd)
        assert (caught.value.record_id, caught.value.file) == ("prd-1", NAME)

    @pytest.mark.parametrize("value", ["../../secret.md", "/etc/passwd", "specs/x.md"])
    def test_a_path_that_leads_elsewhere_is_not_followed(self, store: Store, value: str) -> None:
        (store.path.parent.parent / "secret.md").write_text("secret")
        with pytest.raises(ContentError, match="which is no file of the store"):
            store.read_content(OAUTH.evolve(file=value))

    def test_a_symbolic_link_is_not_followed(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "secret.md").write_text("secret")
        (store.path / "prds").mkdir()
        (store.path / "prds" / "link.md").symlink_to(tmp_path / "secret.md")
        with pytest.raises(ContentError, match="a symbolic link, and those are not followed"):
            store.read_content(OAUTH.evolve(file="prds/link.md"))

    def test_neither_is_a_folder_that_is_one(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "x.md").write_text("secret")
        (store.path / "prds").symlink_to(tmp_path / "outside")
        with pytest.raises(ContentError, match="prds is a symbolic link"):
            store.read_content(OAUTH.evolve(file="prds/x.md"))
        with pytest.raises(WriteFailedError, match="a symbolic link"):
            store.write_content(OAUTH, "x")
        named = store.create(OAUTH.evolve(file="prds/x.md"))
        store.delete(Prd, named.id)
        assert (tmp_path / "outside" / "x.md").read_text() == "secret"

    def test_what_is_no_file_or_no_text_is_told(self, store: Store) -> None:
        (store.path / "prds" / "folder.md").mkdir(parents=True)
        os.mkfifo(store.path / "prds" / "pipe.md")
        (store.path / "prds" / "bytes.md").write_bytes(b"a\xff")
        with pytest.raises(ContentError, match=r"(directory|regular file)"):
            store.read_content(OAUTH.evolve(file="prds/folder.md"))
        with pytest.raises(ContentError, match="it is no regular file"):
            store.read_content(OAUTH.evolve(file="prds/pipe.md"))
        with pytest.raises(ContentError, match=r"no text in UTF-8 .* at byte 1"):
            store.read_content(OAUTH.evolve(file="prds/bytes.md"))


class TestDeleting:
    """The file goes with the last record that names it, however that goes; and only once it has gone."""

    def test_deleting_the_record_deletes_its_file(self, store: Store) -> None:
        store.write_content(OAUTH, "x")
        store.delete("prds", "prd-1")
        assert texts(store) == {}

    def test_a_cascade_deletes_the_files_of_what_it_takes_along(self, store: Store) -> None:
        store.write_content(OAUTH, "x")
        store.write_content(Spec(id="s-1", prd_id="prd-1", phase_name="One"), "y")
        store.delete(Prd, "prd-1")
        assert texts(store) == {}

    def test_so_do_a_batch_and_delete_where(self, store: Store) -> None:
        for number in range(4):
            store.write_content(Prd(id=f"p-{number}", title=f"t{number}"), "x")
        with store.batch() as batch:
            batch.delete(Prd, "p-0")
            batch.delete(Prd, "p-1")
        assert sorted(texts(store)) == ["prds/t2.md", "prds/t3.md"]
        store.delete_where(Prd)
        assert texts(store) == {}

    def test_a_batch_that_is_refused_deletes_nothing(self, store: Store) -> None:
        store.write_content(OAUTH, "x")
        with pytest.raises(NotFoundError), store.batch() as batch:  # noqa: PT012 - it is made at the block's end
            batch.delete(Prd, "prd-1")
            batch.delete(Prd, "nobody")
        assert texts(store) == {NAME: "x"}
        assert store.check().ok

    def test_a_batch_that_is_refused_deletes_nobody_elses_file_either(self, store: Store) -> None:
        (store.path / "prds").mkdir()
        (store.path / "prds" / "stray.md").write_text("by hand")
        create = Create(store._draft(OAUTH.evolve(file="prds/stray.md")))
        refused = Batch((create, Delete("prds", "prd-1"), Delete("prds", "nobody")))
        answers = store._engine.commit([refused, Put(store._draft(OAUTH))], durability=Durability.INDEX)
        assert [type(one) for one in answers] == [Refused, Applied]
        assert texts(store) == {"prds/stray.md": "by hand"}

    def test_a_file_that_another_record_has_by_then_stays(self, store: Store) -> None:
        store.write_content(OAUTH, "x")
        with store.batch() as batch:
            batch.delete(Prd, "prd-1")
            batch.create(Prd(id="prd-2", title="Heir", file=NAME))
        assert texts(store) == {NAME: "x"}

    def test_a_file_that_a_merge_gave_to_two_goes_with_the_second(self, store: Store) -> None:
        store.write_content(OAUTH, "x")
        store.flush()
        with (store.path / "prds.jsonl").open("ab") as journal:
            journal.write(b'{"id":"prd-2","updated_at":7,"title":"Twin","file":"%s"}\n' % NAME.encode())
        store.sync()
        store.delete(Prd, "prd-1")
        assert texts(store) == {NAME: "x"}
        store.delete(Prd, "prd-2")
        assert texts(store) == {}

    def test_an_import_that_deletes_the_record_deletes_the_file(self, store: Store) -> None:
        store.write_content(OAUTH, "x")
        tombstone = b'{"id":"prd-1","deleted":true,"updated_at":9007199254740000}\n'
        store.import_lines("prds", [tombstone], on_conflict="newer")
        assert store.count(Prd) == 0
        assert texts(store) == {}

    def test_a_record_that_names_what_is_not_the_stores_deletes_nothing(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "precious.md").write_text("x")
        for number, value in enumerate(["../precious.md", str(tmp_path / "precious.md"), "prds.jsonl"]):
            store.create(Prd(id=f"p-{number}", title="t", file=value))
        store.flush()
        store.delete_where(Prd)
        assert (tmp_path / "precious.md").exists()
        assert set(files_of(store)) == {"_types.jsonl", "prds.jsonl"}

    @pytest.mark.parametrize("value", ["7" * 5_000, "1e999"])
    def test_so_does_one_that_names_a_number_of_any_size(self, store: Store, value: str) -> None:
        store.flush()
        with (store.path / "prds.jsonl").open("a") as file:
            file.write(f'{{"id":"p","file":{value}}}\n')
        store.sync()
        store.delete("prds", "p")
        assert store.count("prds") == 0

    def test_a_link_goes_and_not_what_it_leads_to(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "precious.md").write_text("x")
        (store.path / "prds").mkdir()
        (store.path / "prds" / "link.md").symlink_to(tmp_path / "precious.md")
        store.create(OAUTH.evolve(file="prds/link.md"))
        store.delete(Prd, "prd-1")
        assert (tmp_path / "precious.md").read_text() == "x"
        assert list((store.path / "prds").iterdir()) == []

    def test_a_file_is_there_until_the_commit(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        store.write_content(OAUTH, "x")

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(Contents, "publish", fail)
            with pytest.raises(WriteFailedError):
                store.delete(Prd, "prd-1")
        assert texts(store) == {NAME: "x"}
        assert store.get(Prd, "prd-1") is not None


class TestCheck:
    """What belongs to nobody, and what is missing, is told."""

    def test_all_is_well(self, store: Store) -> None:
        store.write_content(OAUTH, "x")
        assert store.check().problems == ()

    def test_a_stray_is_named_and_is_no_error(self, store: Store) -> None:
        store.write_content(OAUTH, "x")
        (store.path / "prds" / "stray.md").write_text("?")
        report = store.check()
        assert report.ok
        assert strays(store) == ["prds/stray.md"]

    def test_a_missing_file_is_an_error(self, store: Store) -> None:
        store.write_content(OAUTH, "x")
        (store.path / NAME).unlink()
        store.create(Prd(id="b", title="b", file="../x.md"))
        report = store.check()
        assert not report.ok
        assert [(one.kind, one.record_id) for one in report.problems] == [("content", "b"), ("content", "prd-1")]

    def test_being_killed_between_file_and_record_leaves_a_stray(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish = Contents.publish

        def killed(contents: Contents) -> None:
            publish(contents)
            raise KeyboardInterrupt

        with monkeypatch.context() as broken:
            broken.setattr(Contents, "publish", killed)
            with pytest.raises(KeyboardInterrupt):
                store.write_content(OAUTH, "x")
        assert store.count(Prd) == 0
        assert store.check().ok
        assert strays(store) == [NAME]
        assert store.write_content(OAUTH, "y").file == NAME.replace(".", "-2.")  # nobody's text is overwritten


@pytest.mark.anyio
class TestAwaited:
    """The same calls, awaited."""

    async def test_write_read_and_delete(self, tmp_path: Path) -> None:
        async with StateManager.open(tmp_path, records=[Prd, Spec]) as manager:
            prd = await manager.write_content(OAUTH, "# Why")
            assert prd.file == NAME
            assert await manager.read_content(prd) == "# Why"
            prd = await manager.write_content(prd, "# Why not")
            assert await manager.read_content(prd) == "# Why not"
            with pytest.raises(ContentError):
                await manager.read_content(prd.evolve(file="prds/other.md"))
            await manager.write_content(Spec(id="s-1", prd_id="prd-1", phase_name="One"), "y")
            await manager.delete(Prd, "prd-1")
            assert list(manager.path.glob("*/*.md")) == []
            assert (await manager.check()).ok
