from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.exchange import ExchangeForm, as_document, as_json, as_jsonl, form_of, read_exchange
from taskstore_async.core.sheet import Cells, guarded, read_sheet, unguarded
from taskstore_async.errors import ExchangeError, InvalidNameError

TASKS = (
    b'[\n{"id":3,"uuid":"u-1","description":"Buy","entry":"20240101T120000Z","modified":"20240102T130501Z",'
    b'"status":"pending","tags":["a"],"urgency":1.10},\n{"id":0,"uuid":"u-2","description":"Sell",'
    b'"entry":"20240101T120000Z","status":"deleted"}\n]\n'
)


def lines(data: bytes, form: ExchangeForm, **more: object) -> list[bytes]:
    brought = read_exchange(data, form, source="f", **more)  # type: ignore[arg-type]  # reason: names only
    return b"".join(brought.collections[None]).splitlines()


class TestForm:
    """What a file holds is told by its name, else by its content."""

    @pytest.mark.parametrize(
        ("name", "data", "form"),
        [
            ("x.jsonl", b"[]", ExchangeForm.JSONL),
            ("x.NDJSON", b"", ExchangeForm.JSONL),
            ("x.csv", b"{}", ExchangeForm.CSV),
            ("x.json", b'{"id":"a"}\n{"id":"b"}\n', ExchangeForm.JSONL),
            ("", b' \xef\xbb\xbf{"id":"a"}', ExchangeForm.CSV),
            ("", b'\xef\xbb\xbf{"id":"a"}', ExchangeForm.JSON),
            ("", b'{"id":"a"}\n{"id":"b"}\n', ExchangeForm.JSONL),
            ("", b'{\n"issues": [] }', ExchangeForm.JSON),
            ("", b"[]", ExchangeForm.JSON),
            ("", b"[{", ExchangeForm.JSON),
            ("", b'[{"id":1}]', ExchangeForm.JSON),
            ("tasks.data", TASKS, ExchangeForm.TASKWARRIOR),
            ("", b"id,title\n", ExchangeForm.CSV),
            ("", b"", ExchangeForm.JSONL),
        ],
    )
    def test_form(self, name: str, data: bytes, form: ExchangeForm) -> None:
        assert form_of(name, data) is form


class TestJson:
    """Values keep the text they had; only line ends between tokens go."""

    def test_a_list(self) -> None:
        data = b'[{"id":"a","x":1.10},\n{ "id" : "b" },\n{"id":"c",\n "n":[1.0,\r\n2]}, 7]'
        assert lines(data, ExchangeForm.JSON) == [
            b'{"id":"a","x":1.10}',
            b'{ "id" : "b" }',
            b'{"id":"c","n":[1.0,2]}',
            b"7",
        ]

    def test_one_record_is_one_even_if_it_has_only_lists(self) -> None:
        assert lines(b'{"id":"a","x":[]}', ExchangeForm.JSON) == [b'{"id":"a","x":[]}']
        assert lines(b'{"x":1}', ExchangeForm.JSON) == [b'{"x":1}']
        assert lines(b"{}", ExchangeForm.JSON) == [b"{}"]

    def test_a_document_names_its_collections(self) -> None:
        brought = read_exchange(b'{"issues":[{"id":"a"}],"plans":[]}', ExchangeForm.JSON, source="f")
        assert brought.collections == {"issues": [b'{"id":"a"}\n'], "plans": []}
        with pytest.raises(InvalidNameError):
            read_exchange(b'{"../x":[]}', ExchangeForm.JSON, source="f")

    @pytest.mark.parametrize("data", [b"", b"[1,", b"7", b'{"id":"a"} x'])
    def test_what_is_no_json_is_refused_by_name(self, data: bytes) -> None:
        with pytest.raises(ExchangeError, match=r"^f: .*--format jsonl"):
            read_exchange(data, ExchangeForm.JSON, source="f")

    @given(st.dictionaries(st.sampled_from(["a", "b"]), st.lists(st.dictionaries(st.text(), st.integers()))))
    def test_what_is_written_is_read_back_byte_for_byte(self, found: dict[str, list[dict[str, int]]]) -> None:
        raws = {name: [json.dumps(one).encode() for one in records] for name, records in found.items()}
        if raws:
            data = b"".join(as_document(raws))
            assert json.loads(data) == found
            brought = read_exchange(data, ExchangeForm.JSON, source="f").collections
            assert brought == {name: [raw + b"\n" for raw in some] for name, some in raws.items()}
        for some in raws.values():
            assert lines(b"".join(as_json(some)), ExchangeForm.JSON) == some
            assert lines(b"".join(as_jsonl(some)), ExchangeForm.JSONL) == some


class TestDepth:
    """What is nested too deeply for the decoder is refused by name, or left to the import, which tells of the line."""

    RECORD = b'{"id":"a","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"

    @pytest.mark.parametrize("form", [ExchangeForm.JSON, ExchangeForm.TASKWARRIOR])
    @pytest.mark.parametrize("data", [b"[" + RECORD + b"]", b"[" * 10_000])
    def test_a_list_is_refused(self, data: bytes, form: ExchangeForm) -> None:
        assert form_of("", data) is ExchangeForm.JSON
        with pytest.raises(ExchangeError, match="f: it is no JSON list or object: "):
            lines(data, form)

    def test_a_record_is_refused_or_stays(self) -> None:
        with pytest.raises(ExchangeError, match="f: it is no JSON list or object: "):
            lines(self.RECORD, ExchangeForm.JSON)
        assert form_of("", self.RECORD) is ExchangeForm.JSONL
        for form in (ExchangeForm.JSONL, ExchangeForm.TASKWARRIOR):
            assert lines(self.RECORD, form, names={"x": "y"}) == [self.RECORD]

    def test_a_cell_is_text(self) -> None:
        cell = "[" * 10_000
        assert read_sheet(f"id,x\na,{cell}\n".encode(), names={}, source="f").types["x"] is Cells.TEXT


class TestNames:
    """Fields are renamed all at once and in their place, and none is lost by it."""

    def test_they_may_change_places(self) -> None:
        names = {"id": "number", "key": "id"}
        assert lines(b'{"id":1,"x":2.0,"key":"k"}\n', ExchangeForm.JSONL, names=names) == [
            b'{"number":1,"x":2.0,"id":"k"}'
        ]

    def test_what_is_no_record_stays_for_the_import_to_tell(self) -> None:
        data = b'\xef\xbb\xbf{"k":"a"}\n\n<<<<<<< HEAD\n{"k":"b"}'
        assert lines(data, ExchangeForm.JSONL, names={"k": "id"}) == [b'{"id":"a"}', b"<<<<<<< HEAD", b'{"id":"b"}']

    @pytest.mark.parametrize("data", [b'{"id":"a","k":"b"}', b'{"k":"b","id":"a"}'])
    def test_two_fields_of_one_name_are_refused_with_what_helps(self, data: bytes) -> None:
        with pytest.raises(ExchangeError, match=r"f: line 1: both '.*--map id=old_id"):
            lines(data, ExchangeForm.JSONL, names={"k": "id"})
        assert lines(data, ExchangeForm.JSONL, names={"k": "id", "id": "old_id"})

    def test_without_names_bytes_pass(self) -> None:
        assert read_exchange(b"x\r\n\n", ExchangeForm.BEADS, source="f").collections == {None: [b"x\r\n\n"]}


class TestTaskwarrior:
    """A task is a record whose id is its uuid, and whose stamps are its own."""

    @pytest.mark.parametrize("data", [TASKS, TASKS.strip()[2:-2].replace(b"},\n", b"}\n")])
    def test_a_task(self, data: bytes) -> None:
        assert lines(data, ExchangeForm.TASKWARRIOR) == [
            (
                b'{"number":3,"id":"u-1","title":"Buy","created_at":"2024-01-01T12:00:00Z",'
                b'"updated_at":"2024-01-02T13:05:01Z","status":"pending","tags":["a"],"urgency":1.10}'
            ),
            b'{"number":0,"id":"u-2","title":"Sell","created_at":"2024-01-01T12:00:00Z","status":"deleted"}',
        ]

    def test_own_names_beat_those(self) -> None:
        (first, _) = lines(TASKS, ExchangeForm.TASKWARRIOR, names={"description": "name"})
        assert b'"name":"Buy"' in first


class TestSheet:
    """Types are guessed by column, and a guess never changes what a cell says."""

    def test_types(self) -> None:
        data = b'id,n,x,b,j,z,t,e\n1,1,1.10,true,[1],007,a,\n2,,-2e5,FALSE,"{""a"": 1}",1,1,\n'
        sheet = read_sheet(data, source="f", names={})
        assert [kind.value for kind in sheet.types.values()] == (
            ["text", "integer", "number", "boolean", "json", "text", "text", "empty"]
        )
        assert b"".join(sheet.lines).splitlines() == [
            b'{"id":"1","n":1,"x":1.10,"b":true,"j":[1],"z":"007","t":"a"}',
            b'{"id":"2","x":-2e5,"b":false,"j":{"a":1},"z":"1","t":"1"}',
        ]
        plain = read_sheet(data, source="f", names={}, typed=False)
        assert set(plain.types.values()) == {Cells.TEXT, Cells.EMPTY}

    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_delimiters_quotes_and_names(self, delimiter: str) -> None:
        data = f'\ufeffkey{delimiter}a title\r\nk{delimiter}"x{delimiter}\r\n""y"""\r\n\r\nl\r\n'.encode()
        sheet = read_sheet(data, source="f", names={"key": "id"})
        assert [json.loads(line) for line in sheet.lines] == [
            {"id": "k", "a title": f'x{delimiter}\r\n"y"'},
            {"id": "l"},
        ]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "no header"),
            (b"a,b\n", "--id-field a"),
            (b"id,b,b\n", "'b'"),
            (b"id,,b\n", "no name"),
            (b"id\n1,2\n", "line 2"),
            (b'id\n"1\n', "line 2"),
            (b"id\n\xff\n", "byte 3"),
        ],
    )
    def test_what_is_no_sheet_is_refused_with_the_place(self, data: bytes, reason: str) -> None:
        with pytest.raises(ExchangeError, match=reason):
            read_sheet(data, source="f", names={})

    def test_a_column_that_is_not_there_cannot_be_renamed(self) -> None:
        with pytest.raises(ExchangeError, match="it has: id, a"):
            read_sheet(b"id,a\n", source="f", names={"b": "c"})

    @given(st.text())
    def test_guarding_is_taken_back(self, text: str) -> None:
        assert unguarded(guarded(text)) == text
        assert not guarded(text).startswith(("=", "+", "-", "@"))
