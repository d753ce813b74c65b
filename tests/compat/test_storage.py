"""The older calls, blocking and awaited: what they promised they still do."""

from __future__ import annotations

from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import taskstore_async.compat
from taskstore_async import (
    AlreadyExistsError,
    Document,
    Indexed,
    InvalidIdError,
    InvalidNameError,
    NotFoundError,
    Record,
    eq,
    in_,
    is_null,
    not_,
)
from taskstore_async.compat import AsyncStorage, Filter, Storage
from taskstore_async.compat.filters import translated
from taskstore_async.core.filters import FilterOp, matches
from tests.conftest import LOOPS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Open = Callable[[], AbstractAsyncContextManager[Storage | AsyncStorage]]

T = TypeVar("T")
pytestmark = pytest.mark.anyio


class Loop(Record):
    collection: ClassVar[str] = "loops"

    status: Annotated[str, Indexed] = "pending"
    worktree: str | None = None


async def of(answer: T | Awaitable[T]) -> T:
    """What a call of either storage answers."""
    return cast("T", await answer if isawaitable(answer) else answer)


@pytest.fixture(params=["blocking", "awaited"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the storage in the test's own directory."""

    @asynccontextmanager
    async def open_() -> AsyncGenerator[Storage | AsyncStorage]:
        if request.param == "awaited":
            async with AsyncStorage.open(tmp_path, records=[Loop]) as storage:
                yield storage
        else:
            with Storage.open(tmp_path, records=[Loop]) as blocking:
                yield blocking

    return open_


class TestCalls:
    """create, get, update, delete, query, list: by collection and id."""

    async def test_create_returns_nothing_and_refuses_what_is_there(self, opened: Open) -> None:
        async with opened() as storage:
            assert await of(cast("Any", storage.create("plans", {"id": "a", "title": "x"}))) is None
            with pytest.raises(AlreadyExistsError):
                await of(storage.create("plans", {"id": "a", "title": "y"}))
            found = await of(storage.get("plans", "a"))
            assert isinstance(found, Document)
            assert (found.id, found["title"]) == ("a", "x")
            assert await of(storage.get("plans", "b")) is None
            with pytest.raises(InvalidIdError):
                await of(storage.create("plans", {"title": "no id"}))

    async def test_update_asks_for_no_version_but_for_the_record(self, opened: Open) -> None:
        async with opened() as storage:
            await of(storage.create(Loop, Loop(id="a")))
            first = await of(storage.get(Loop, "a"))
            assert first is not None
            await of(storage.update(Loop, first.evolve(status="running")))
            await of(storage.update("loops", first.evolve(status="failed")))  # made from a version that is past
            found = await of(storage.get(Loop, "a"))
            assert found is not None
            assert found.status == "failed"
            assert found.updated_at > first.updated_at
            with pytest.raises(NotFoundError):
                await of(storage.update(Loop, Loop(id="b")))
            with pytest.raises(NotFoundError):
                await of(storage.update("plans", {"id": "b"}))
            await of(storage.update("loops", {"id": "a", "status": "complete"}))
            assert [one.status for one in await of(storage.list(Loop))] == ["complete"]

    async def test_delete_wants_something_to_delete(self, opened: Open) -> None:
        async with opened() as storage:
            await of(storage.create("plans", {"id": "a"}))
            await of(storage.delete("plans", "a"))
            assert await of(storage.list("plans")) == []
            with pytest.raises(NotFoundError):
                await of(storage.delete("plans", "a"))

    async def test_queries(self, opened: Open) -> None:
        async with opened() as storage:
            for number, status in enumerate(["pending", "running", '"running"']):
                await of(storage.create("loops", Loop(id=f"l{number}", status=status)))
            await of(storage.create("loops", {"id": "l3", "status": "running", "worktree": "/w"}))

            async def ids(*filters: Any) -> list[str]:  # noqa: ANN401 - reason: filters of both kinds
                return [one.id for one in await of(storage.query(Loop, filters))]

            assert await ids() == ["l0", "l1", "l2", "l3"]
            assert await ids(Filter.eq("status", '"pending"')) == ["l0"]
            assert await ids(Filter.eq("status", '"running"')) == ["l1", "l2", "l3"]
            assert await ids(Filter.eq("status", "running"), Filter.eq("worktree", None)) == ["l1"]
            assert await ids(Filter.ne("status", '"running"')) == ["l0"]
            assert await ids(Filter.in_("status", ['"pending"', "x"])) == ["l0"]
            assert await ids(Filter.is_null("worktree"), Filter.contains("status", "pend")) == ["l0"]
            assert await ids(Filter.gt("id", "l1"), Filter.lt("id", "l3")) == ["l2"]
            assert await ids(Filter.gte("id", "l1"), Filter.lte("id", "l1")) == ["l1"]
            assert await ids(Filter("status", FilterOp.EQ, '"pending"')) == ["l0"]
            assert [one["id"] for one in await of(storage.query("loops", [eq("status", '"pending"')]))] == ["l0"]

    async def test_a_record_of_another_collection_is_refused(self, opened: Open) -> None:
        async with opened() as storage:
            with pytest.raises(InvalidNameError, match="Loop records are of loops"):
                await of(storage.create("plans", Loop(id="a")))
            await of(storage.create("plans", Document("plans", {"id": "a"})))
            with pytest.raises(InvalidNameError, match="of plans"):
                await of(storage.update("loops", Document("plans", {"id": "a"})))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Asyncio: what the loops differ in is tested below the older calls; see `test_on_every_loop`."""
    return "asyncio", {}


class TestFilters:
    """A quoted text stands for what it quotes as well; everything else means what it says."""

    def test_null(self) -> None:
        assert Filter.eq("a", None) == is_null("a")
        assert translated(Filter.eq("a", None)) == is_null("a")

    def test_quoted_text(self) -> None:
        assert translated(Filter.eq("a", '"x"')) == in_("a", ['"x"', "x"])
        assert translated(Filter.ne("a", '"x"')) == not_(in_("a", ['"x"', "x"]))
        for plain in ("x", '"', '"x', 'x"', '"x" or "y"', "", 1, True, 2.5):
            assert translated(Filter.eq("a", plain)) == eq("a", plain)

    @given(value=st.text(), quoted=st.booleans())
    def test_it_finds_the_value_and_what_is_spelt_like_it(self, value: str, *, quoted: bool) -> None:
        import json  # noqa: PLC0415 - reason: what older programs did

        wanted = translated(Filter.eq("a", json.dumps(value) if quoted else value))
        assert matches([wanted], {"a": value}.get)

    def test_names_that_are_none_are_none(self) -> None:
        with pytest.raises(AttributeError, match="Nonsense"):
            taskstore_async.compat.Nonsense  # type: ignore[attr-defined]  # noqa: B018 # pyright: ignore[reportAttributeAccessIssue, reportUnusedExpression] - reason: the mistake


class TestLoops:
    """The awaited calls are awaited on every loop."""

    @pytest.fixture(params=LOOPS)
    def anyio_backend(self, request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
        found: tuple[str, dict[str, Any]] = request.param
        return found

    async def test_on_every_loop(self, tmp_path: Path) -> None:
        async with AsyncStorage.open(tmp_path) as storage:
            await storage.create("plans", {"id": "a"})
            assert [one.id for one in await storage.list("plans")] == ["a"]
