"""Queries as SQL: two implementations, one meaning; and the indexes that make one of them fast."""

from __future__ import annotations

import math
import sqlite3
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.core.comparable import OPAQUE, field_comparable
from taskstore_async.core.filters import (
    Filter,
    FilterOp,
    any_,
    contains,
    eq,
    gt,
    gte,
    in_,
    is_null,
    lt,
    lte,
    ne,
    not_,
)
from taskstore_async.core.query import Cursor, Query, decode_cursor, encode_cursor, select
from taskstore_async.storage.schema import create_row_indexes, create_rows
from taskstore_async.storage.select import Compiled, compile_query, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

COLUMNS = {"a": "c0", "b": "c1", "created_at": "c2"}
FIELDS = ["a", "b", "created_at", "x", "y"]  # x and y have no column
TOP = 2**63 - 1


class Row(msgspec.Struct, frozen=True):
    """A record as the tests make them; called with a field's name it gives the value."""

    id: str
    ms: int
    fields: dict[str, Any]
    dead: bool = False

    def __call__(self, field: str) -> object:
        if field in {"id", "updated_at"}:
            return self.id if field == "id" else self.ms
        return self.fields.get(field, msgspec.UNSET)


Found: TypeAlias = list[str]


class Table:
    """A row table in memory, laid out as the index has it."""

    def __init__(self, rows: Iterable[Row], columns: Mapping[str, str] = COLUMNS) -> None:
        self.db = sqlite3.connect(":memory:")
        self.columns = columns
        create_rows(self.db, "r1", len(columns))
        create_row_indexes(self.db, "r1", len(columns))
        self.rows = list(rows)
        marks = ", ".join("?" * (7 + len(columns)))
        for pk, row in enumerate(self.rows):
            cells = [field_comparable(field, row(field)) for field in columns]
            self.db.execute(
                f"INSERT INTO r1 VALUES ({marks})",
                (pk, row.id, row.ms, 0, row.dead, 0, b"", *[b"" if cell is OPAQUE else cell for cell in cells]),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()

    @property
    def live(self) -> list[tuple[str, Row]]:
        return [(row.id, row) for row in self.rows if not row.dead]

    def compile(self, query: Query) -> Compiled:
        return compile_query(query, table="r1", columns=self.columns)

    def run(self, query: Query) -> Found:
        """What the engine does: SQL first, Python for the rest."""
        compiled = self.compile(query)
        found = [self.rows[pk] for (pk,) in self.db.execute(*compiled.select("pk"))]
        return [record_id for record_id, _ in finish(compiled, [(row.id, row) for row in found])]

    def count(self, query: Query) -> int | None:
        """The count by SQL; None when only Python can tell."""
        compiled = self.compile(query)
        if compiled.residual:
            return None
        ((count,),) = self.db.execute(*compiled.count)
        assert isinstance(count, int)
        return count

    def plan(self, query: Query) -> str:
        sql, params = self.compile(query).select()
        return "\n".join(row[3] for row in self.db.execute(f"EXPLAIN QUERY PLAN {sql}", params))


def by_python(query: Query, table: Table) -> Found:
    return [record_id for record_id, _ in select(query, table.live)]


# -- what records and filters are made of -------------------------------------------------------------------

ODD_TEXT = [
    "",
    "a",
    "A",
    "b",
    "ab",
    "a%",
    "a_",
    "é",
    "É",
    "k\u212a",
    "a\x00",
    "a\x00b",
    "\ud7ff",
    "\ue000",
    "5",
    "1.0",
    "\U0001f600",
]
ODD_INTEGERS = [0, 1, -1, 5, 2**53, 2**53 + 1, -(2**53) - 1, TOP, -(2**63), TOP - 1, 2**62]
ODD_FLOATS = [0.0, -0.0, 1.0, 0.5, 5e-324, -5e-324, 1e308, -1e308, 2.0**53, 2.0**63, -(2.0**63), 2.0**70, -(2.0**70)]
BEYOND = [2**63, -(2**63) - 1, 2**70, 2**70 + 1, 2**70 - 1, -(2**70), -(2**70) - 1, 10**308, 10**400, -(10**400)]

TEXT = st.sampled_from(ODD_TEXT) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
NUMBERS = st.one_of(
    st.sampled_from([*ODD_INTEGERS, *ODD_FLOATS]),
    st.integers(-3, 3),
    st.integers(-(2**63), TOP),
    st.floats(allow_nan=False, allow_infinity=False),
)
BIG = st.sampled_from(BEYOND)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT
JSON = SCALARS | BIG | st.lists(SCALARS | BIG, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=1)
STAMPS = st.sampled_from(["2024-01-01T00:00:00Z", 1_704_067_200_000, "yesterday", -1, 0, 1.5])
SURROGATES = st.sampled_from(["\ud800", "a\ud800", "a\udfffz", "\ud83d\ude00", "\udc00\ue000"])

IDS = TEXT.filter(bool) | st.sampled_from("abcdefgh")
FIELD_VALUES = {field: JSON if field != "created_at" else STAMPS | JSON for field in FIELDS}


@st.composite
def tables_of(draw: st.DrawFn) -> list[Row]:
    ids = draw(st.lists(IDS, max_size=12, unique=True))
    return [
        Row(
            record_id,
            draw(st.integers(0, 4) | st.integers(0, 2**53 - 1)),
            draw(st.fixed_dictionaries({}, optional=FIELD_VALUES)),
            dead=draw(st.integers(0, 5)) == 0,
        )
        for record_id in ids
    ]


NAMES = st.sampled_from([*FIELDS, "a", "b", "id", "updated_at"])
WANTED = NUMBERS | TEXT | BIG | SURROGATES | st.booleans() | STAMPS
LEAVES = st.one_of(
    st.builds(eq, NAMES, st.none() | WANTED),
    st.builds(ne, NAMES, st.none() | WANTED),
    *(st.builds(make, NAMES, WANTED) for make in (gt, gte, lt, lte, contains)),
    st.builds(in_, NAMES, st.lists(st.none() | WANTED, max_size=4)),
    st.builds(is_null, NAMES),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: any_(*parts))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: not_(*parts))
    ),
    max_leaves=6,
)
ORDERS = st.none() | st.sampled_from([sign + field for field in [*FIELDS, "id", "updated_at"] for sign in ("", "-")])


@st.composite
def queries(draw: st.DrawFn) -> Query:
    filters = tuple(draw(st.lists(FILTERS, max_size=3)))
    return Query(filters, draw(ORDERS), draw(st.none() | st.integers(0, 5)), draw(st.just(0) | st.integers(0, 3)))


class TestOneMeaning:
    """SQL, with Python for what SQL cannot decide, gives what Python alone gives: rows, order, page and count."""

    @given(tables_of(), queries())
    def test_sql_and_python_agree_on_every_query(self, rows: list[Row], query: Query) -> None:
        with Table(rows) as table:
            assert table.run(query) == by_python(query, table)

    @given(tables_of(), queries())
    def test_sql_and_python_agree_on_every_count(self, rows: list[Row], query: Query) -> None:
        with Table(rows) as table:
            counted = table.count(query)
            assert counted is None or counted == len(by_python(Query(query.filters), table))

    @given(tables_of(), LEAVES)
    def test_a_filter_and_its_complement_part_the_rows(self, rows: list[Row], wanted: Filter) -> None:
        with Table(rows) as table:
            found = {*table.run(Query((wanted,)))}
            others = {*table.run(Query((not_(wanted),)))}
            assert found | others == {record_id for record_id, _ in table.live}
            assert not found & others

    @given(tables_of(), queries(), st.data())
    def test_they_agree_behind_every_cursor(self, rows: list[Row], query: Query, data: st.DataObject) -> None:
        with Table(rows) as table:
            everything = select(Query((), query.order_by), table.live)
            if not everything:
                return
            after = Cursor.at(query.order_by, *data.draw(st.sampled_from(everything)))
            paged = msgspec.structs.replace(query, after=after)
            assert table.run(paged) == by_python(paged, table)
            position = [row[0] for row in everything].index(after.id)
            behind = {row[0] for row in everything[position + 1 :]}
            unpaged = msgspec.structs.replace(query, limit=None, offset=0)
            expected = [found for found in by_python(unpaged, table) if found in behind]
            stop = None if query.limit is None else query.offset + query.limit
            assert table.run(paged) == expected[query.offset : stop]

    @given(tables_of(), queries(), st.integers(1, 3))
    def test_walking_the_pages_visits_each_row_once_and_in_order(
        self, rows: list[Row], query: Query, limit: int
    ) -> None:
        with Table(rows) as table:
            by_id = dict(table.live)
            whole = Query(query.filters, query.order_by)
            page = msgspec.structs.replace(whole, limit=limit)
            walked: list[str] = []
            while found := table.run(page):
                walked += found
                token = encode_cursor(Cursor.at(query.order_by, found[-1], by_id[found[-1]]))
                page = msgspec.structs.replace(page, after=decode_cursor(token, order_by=query.order_by))
            assert walked == by_python(whole, table)

    @pytest.mark.parametrize("make", [eq, gt, gte, lt, lte, lambda field, value: in_(field, [value])])
    @pytest.mark.parametrize("value", ["5", "5.0", "", 5, 5.0, 4, "x"])
    def test_sqlite_does_not_convert_what_it_compares(
        self, make: Callable[[str, object], Filter], value: object
    ) -> None:
        with Table([Row("5", 5, {"a": 5}), Row("5.0", 6, {"a": "5"}), Row("x", 4, {"a": True})]) as table:
            for field in ("id", "updated_at", "a"):
                query = Query((make(field, value),))
                assert not table.compile(query).residual
                assert table.run(query) == by_python(query, table)

    @pytest.mark.parametrize("make", [eq, gt, gte, lt, lte, ne, lambda field, value: in_(field, [value])])
    @pytest.mark.parametrize("value", ["\ud800", "a\ud800", "a\udfffb", "\ud83d\ude00"])
    def test_text_that_no_record_can_hold_has_its_place_all_the_same(
        self, make: Callable[[str, object], Filter], value: str
    ) -> None:
        texts = ["", "a", "ab", "a\ud7ff", "a\ud7ffz", "a\ue000", "a\U0001f600", "b", "\ud7ff", "\ue000", "\U0001f600"]
        with Table([Row(f"{at:02}", 0, {"a": text}) for at, text in enumerate(texts)]) as table:
            query = Query((make("a", value),))
            assert not table.compile(query).residual
            assert table.run(query) == by_python(query, table)

    @pytest.mark.parametrize("order_by", ["a", "-a", "b", "-b", "x", "-x", "id", "-id", "updated_at", "-updated_at"])
    def test_every_row_of_every_kind_can_end_a_page(self, order_by: str) -> None:
        values: list[Any] = [None, None, 1, 1.0, 2, "a", "a", "b", [], {}]
        rows = [Row(f"{at}", at // 2, {"a": value, "x": value}) for at, value in enumerate(values)]
        with Table(rows) as table:
            whole = table.run(Query((), order_by))
            for at, record_id in enumerate(whole):
                after = Cursor.at(order_by, record_id, rows[int(record_id)])
                assert table.run(Query((), order_by, after=after)) == whole[at + 1 :]

    @pytest.mark.parametrize("value", [*ODD_INTEGERS, *ODD_FLOATS, *BEYOND])
    @pytest.mark.parametrize("make", [eq, gt, gte, lt, lte, ne])
    def test_numbers_at_the_edges(self, make: Callable[[str, object], Filter], value: float) -> None:
        numbers = [*ODD_INTEGERS, *ODD_FLOATS, *BEYOND, math.nextafter(float(2**70), math.inf)]
        with Table([Row(f"{at:02}", at, {"a": number}) for at, number in enumerate(numbers)]) as table:
            for field in ("a", "updated_at"):
                query = Query((make(field, value),))
                assert not table.compile(query).residual
                assert table.run(query) == by_python(query, table)


class TestDecidedInSql:
    """What the columns decide is decided by SQLite, and nothing else is."""

    @pytest.mark.parametrize(
        "wanted",
        [
            eq("a", 1),
            ne("a", "x"),
            in_("a", [1, None, "x"]),
            gt("a", "x"),
            lte("a", 2**70),
            is_null("a"),
            eq("id", "x"),
            gt("updated_at", 5),
            eq("updated_at", "x"),
            contains("updated_at", "x"),
            contains("id", 5),
            any_(eq("a", 1), not_(gt("b", 2), lt("id", "m"))),
            not_(not_(eq("a", 1), eq("b", 1))),
            any_(),
            not_(any_()),
            Filter("", FilterOp.NOT),
            not_(Filter("", FilterOp.NOT)),
        ],
    )
    def test_nothing_is_left_for_python(self, wanted: Filter) -> None:
        with Table([Row("x", 5, {"a": 1}), Row("y", 6, {"b": 1})]) as table:
            query = Query((wanted,), "-a", 10, 0)
            assert table.compile(query).rest is None
            assert table.run(query) == by_python(query, table)

    @pytest.mark.parametrize(
        "wanted",
        [
            eq("x", 1),
            contains("a", "x"),
            contains("a", 1),
            contains("id", "x"),
            any_(eq("a", 1), eq("x", 1)),
            not_(contains("a", "x")),
            not_(eq("a", 1), eq("x", 1)),
            not_(not_(eq("a", 1), eq("x", 1))),
            not_(not_(eq("x", 1))),
        ],
    )
    def test_what_it_cannot_decide_stays_whole(self, wanted: Filter) -> None:
        with Table([]) as table:
            compiled = table.compile(Query((eq("a", 1), wanted), "a", 3, 1))
            assert compiled.residual == (wanted,)
            assert compiled.rest == Query((wanted,), "a", 3, 1)
            assert "LIMIT" not in compiled.select()[0]

    def test_an_order_without_a_column_leaves_the_page_to_python(self) -> None:
        with Table([]) as table:
            compiled = table.compile(Query((eq("a", 1),), "x", limit=3))
            assert compiled.order is None
            assert compiled.rest == Query((), "x", limit=3)
            assert compiled.residual == ()

    def test_every_value_is_a_parameter(self) -> None:
        evil = "'; DROP TABLE r1; --"
        with Table([Row(evil, 1, {"a": evil})]) as table:
            query = Query((eq("a", evil), any_(lte("a", evil), in_("id", [evil, "b"]))), "a", after=Cursor("a", "", ""))
            sql, params = table.compile(query).select()
            assert "DROP" not in sql
            assert params.count(evil) == 3
            assert table.run(query) == [evil]

    def test_the_default_columns_are_the_line_its_stamp_and_its_id(self) -> None:
        with Table([Row("x", 5, {})]) as table:
            assert table.db.execute(*table.compile(Query()).select()).fetchall() == [(b"", 5, 0, "x")]

    def test_rows_that_are_finished_stay_as_they_are(self) -> None:
        row = Row("x", 5, {})
        with Table([row]) as table:
            assert finish(table.compile(Query((eq("id", "other"),))), [("x", row)]) == [("x", row)]

    def test_rows_that_sql_orders_are_taken_only_as_far_as_the_page_needs(self) -> None:
        rows = [Row(f"{number}", 0, {"a": number, "x": number}) for number in range(9)]
        taken: list[str] = []

        def given_by(sql: tuple[str, tuple[Any, ...]], table: Table) -> Iterator[tuple[str, Row]]:
            for (pk,) in table.db.execute(*sql):
                taken.append(rows[pk].id)
                yield rows[pk].id, rows[pk]

        with Table(rows) as table:
            compiled = table.compile(Query((gt("x", 1),), "-a", limit=2))
            found = finish(compiled, given_by(compiled.select("pk"), table))
        assert [record_id for record_id, _ in found] == ["8", "7"]
        assert taken == ["8", "7"]


class TestLimitsOfSqlite:
    """A query larger than SQLite takes is answered in Python, as far as it is larger."""

    ROWS = tuple(Row(f"{number:03}", number, {"a": number, "b": str(number)}) for number in range(30))

    @pytest.mark.parametrize(
        "filters",
        [
            (in_("a", range(5, 40_000)),),
            (in_("a", range(20_000)), in_("b", [str(number) for number in range(10, 20_000)])),
            (any_(*[eq("a", number) for number in range(5, 5_000)]),),
            tuple(ne("a", number) for number in range(2, 5_000, 2)),
            (not_(*[gt("b", str(number)) for number in range(2_000)]),),
        ],
        ids=["values of one", "values together", "branches", "side by side", "inside not"],
    )
    def test_very_many(self, filters: tuple[Filter, ...]) -> None:
        with Table(self.ROWS) as table:
            query = Query(filters, "-a", 5)
            assert table.compile(query).residual
            assert table.run(query) == by_python(query, table)

    @pytest.mark.parametrize(
        "join",
        [
            lambda parts: (any_(*parts),),
            tuple,
            lambda parts: (not_(*parts),),
            lambda parts: (any_(*map(not_, parts)),),
        ],
        ids=["any", "side by side", "not", "any of not"],
    )
    @pytest.mark.parametrize("make", [gt, ne, lambda field, value: in_(field, [value, None, 0])])
    def test_what_is_just_small_enough_is_taken_by_sqlite(
        self,
        join: Callable[[Sequence[Filter]], tuple[Filter, ...]],
        make: Callable[[str, object], Filter],
    ) -> None:
        with Table(self.ROWS) as table:
            made = (Query(join([make("a", number) for number in range(size)])) for size in range(210, 0, -1))
            query = next(query for query in made if not table.compile(query).residual)
            assert table.compile(query).where.count("c0") >= 60
            assert table.run(query) == by_python(query, table)

    @pytest.mark.parametrize("times", [0, 2, 3, 6, 7, 8, 49])
    @pytest.mark.parametrize(
        ("around", "levels"),
        [
            (any_, 1),
            (not_, 1),
            (lambda inner: not_(inner, eq("b", "7")), 1),
            (lambda inner: any_(eq("b", "7"), inner), 1),
            (lambda inner: any_(eq("b", "7"), not_(in_("b", ["7", None]), inner)), 2),
        ],
        ids=["any", "not", "not of two", "any of two", "any and not"],
    )
    def test_nesting(self, around: Callable[[Filter], Filter], levels: int, times: int) -> None:
        wanted = gt("a", 10)
        for _ in range(times):
            wanted = around(wanted)
        with Table(self.ROWS) as table:
            query = Query((wanted,))
            assert table.run(query) == by_python(query, table)
            assert bool(table.compile(query).residual) == (1 + levels * times > 8)

    def test_thirty_thousand_values_are_bound(self) -> None:
        with Table(self.ROWS) as table:
            query = Query((in_("a", range(10, 30_010)),), limit=3, offset=1)
            assert table.compile(query).rest is None
            assert table.run(query) == ["011", "012", "013"]

    def test_the_largest_numbers_of_a_page_are_bound(self) -> None:
        with Table(self.ROWS) as table:
            assert table.run(Query(limit=TOP, offset=TOP)) == []
            assert len(table.run(Query(limit=TOP))) == 30
            assert len(table.run(Query(offset=20))) == 10

    def test_long_text_is_bound(self) -> None:
        long = "x" * 5_000_000
        with Table([Row("a", 1, {"a": long}), Row("b", 1, {"a": long[1:]})]) as table:
            assert table.run(Query((eq("a", long),))) == ["a"]
            assert table.run(Query((lt("a", long),))) == ["b"]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    rows = [Row(f"r{number}", number, {"a": number % 50, "b": str(number)}) for number in range(500)]
    with Table(rows) as made:
        yield made


class TestIndexes:
    """A filter or an order on an indexed field uses that field's index, and a page does not sort the collection."""

    @pytest.mark.parametrize("order_by", [None, "x", "updated_at", "-a"])
    @pytest.mark.parametrize(
        ("wanted", "bounds"),
        [
            (eq("a", 1), "c0=?"),
            (eq("a", "x"), "c0=?"),
            (is_null("a"), "c0=?"),
            (in_("a", [1, 2, "x"]), "c0=?"),
            (gt("a", 1), "c0>? AND c0<?"),
            (gte("a", "x"), "c0>? AND c0<?"),
            (lt("a", "x"), "c0>? AND c0<?"),
            (lte("a", 1), "c0>? AND c0<?"),
            (not_(not_(eq("a", 1))), "c0=?"),
        ],
    )
    def test_a_filter_is_a_search(self, table: Table, wanted: Filter, bounds: str, order_by: str | None) -> None:
        plan = table.plan(Query((wanted,), order_by, limit=5))
        assert f"SEARCH r1 USING INDEX r1c0 ({bounds})" in plan

    @pytest.mark.parametrize(
        "wanted", [any_(eq("a", 1), eq("b", "x")), any_(in_("a", [1, None]), gt("b", 5)), in_("a", [1, 2, None])]
    )
    def test_alternatives_are_a_search_each(self, table: Table, wanted: Filter) -> None:
        plan = table.plan(Query((wanted,)))
        assert "MULTI-INDEX OR" in plan
        assert "SCAN" not in plan

    @pytest.mark.parametrize("order_by", ["a", "-a"])
    def test_an_order_walks_the_index_and_sorts_only_ties(self, table: Table, order_by: str) -> None:
        plan = table.plan(Query((), order_by, limit=5))
        assert "SCAN r1 USING INDEX r1c0" in plan
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan

    @pytest.mark.parametrize("order_by", [None, "-id"])
    def test_the_order_by_id_sorts_nothing(self, table: Table, order_by: str | None) -> None:
        assert "TEMP B-TREE" not in table.plan(Query((), order_by, limit=5))

    def test_one_value_by_stamp_walks_its_part_of_the_index(self, table: Table) -> None:
        plan = table.plan(Query((eq("a", 1),), "-updated_at", limit=5))
        assert "SEARCH r1 USING INDEX r1c0 (c0=?)" in plan
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan

    def test_a_page_begins_at_its_cursor(self, table: Table) -> None:
        by_id = table.plan(Query(after=Cursor("id", "r7", "r7"), limit=5))
        assert "SEARCH r1 USING INDEX sqlite_autoindex_r1_1 (id>?)" in by_id
        by_field = table.plan(Query((), "a", after=Cursor("a", 3, "r7"), limit=5))
        assert "SEARCH r1 USING INDEX r1c0 (c0>?)" in by_field
        assert "USE TEMP B-TREE FOR ORDER BY" not in by_field

    def test_a_page_downwards_sorts_only_ties(self, table: Table) -> None:
        plan = table.plan(Query((), "-a", after=Cursor("-a", 3, "r7"), limit=5))
        assert "USING INDEX r1c0" in plan
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan
