from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from taskstore_async.core.filters import eq
from taskstore_async.core.record import Document
from taskstore_async.errors import (
    ClaimLostError,
    InvalidRecordError,
    LimitExceededError,
    UniqueError,
)
from taskstore_async.storage import apply, clock, rows
from taskstore_async.storage.store import Lease, Store

from .samples import ALL, QUIET, Loose, Plan, unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Time:
    def __init__(self) -> None:
        self.ms = 2_000_000_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    fresh = clock.Clock()
    monkeypatch.setattr(clock, "now_ms", time)
    monkeypatch.setattr("taskstore_async.storage.connections.process_clock", fresh)
    return time


@pytest.fixture
def store(tmp_path: Path, time: Time) -> Iterator[Store]:
    assert time.ms
    with Store.open(tmp_path, records=ALL, sync=QUIET) as opened:
        opened.create_many([Plan(id=f"p{n}", priority=9 - n) for n in range(3)])
        yield opened
        assert opened.check().ok


def claim(store: Store, owner: str = "me", *, lease_ms: int = 60_000) -> Lease:
    lease = store.claim(Plan, eq("status", "draft"), owner=owner, lease_ms=lease_ms)
    assert lease is not None
    return lease


class TestClaim:
    """A claim leases the first free record, and nobody else has it while the lease lives."""

    def test_a_claim_changes_the_record_and_says_until_when(self, store: Store, time: Time) -> None:
        lease = store.claim(Plan, owner="me", set={"status": "active", "title": "é"}, lease_ms=50, order_by="priority")
        assert lease is not None
        assert (lease.record.id, lease.record.status, lease.record.title) == ("p2", "active", "é")
        assert lease.until_ms == time.ms + 50
        assert store.get(Plan, "p2") == lease.record
        assert store.update(lease.record, token=lease.token).id == "p2"

    def test_live_leases_are_skipped_whoever_asks(self, store: Store) -> None:
        assert [claim(store).record.id for _ in range(3)] == ["p0", "p1", "p2"]
        with unchanged(store):
            assert store.claim(Plan, eq("status", "draft"), owner="me") is None
        assert store.claim("nothing", owner="me") is None

    def test_tokens_only_rise_and_a_lease_that_ended_is_free_again(self, store: Store, time: Time) -> None:
        tokens = [claim(store, lease_ms=10).token for _ in range(3)]
        time.ms += 10
        again = claim(store, "other")
        assert again.record.id == "p0"
        assert sorted({*tokens, again.token}) == [*tokens, again.token]
        time.ms -= 1_000_000
        assert claim(store).token > again.token

    def test_tokens_rise_over_a_new_index(self, store: Store, time: Time) -> None:
        lease = claim(store)
        store.flush()
        (store.path / "store.db").unlink()
        time.ms += 1
        with pytest.raises(ClaimLostError):
            store.renew("plans", "p0", token=lease.token)
        assert claim(store).token > lease.token

    def test_it_reads_no_more_records_than_it_must(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        store.create_many([Plan(id=f"q{n}") for n in range(100)])
        read: list[int] = []

        def counting(*args: object) -> object:
            found = found_lines(*args)  # type: ignore[arg-type]  # reason: passed on as they come
            read.append(len(found))
            return found

        found_lines = rows.found_lines
        monkeypatch.setattr(apply, "found_lines", counting)
        for _ in range(4):
            claim(store)
        assert read == [1, 2, 3, 4]

    def test_a_filter_without_an_index_and_live_leases_find_a_free_record_all_the_same(self, store: Store) -> None:
        store.create_many([Plan(id=f"q{n}", title="x" if n % 5 == 4 else "y") for n in range(20)])
        found = [store.claim(Plan, eq("title", "x"), owner="me") for _ in range(5)]
        assert [one and one.record.id for one in found] == ["q14", "q19", "q4", "q9", None]

    @pytest.mark.parametrize(
        ("target", "changes"),
        [
            (Plan, {"priority": "high"}),
            (Plan, {"priority": float("nan")}),
            (Plan, {"nothing": 1}),
            (Plan, {"title": "\ud800"}),
            (Plan, {"id": "other"}),
            (Plan, {"updated_at": 5}),
            ("plans", {"deleted": True}),
            ("plans", {"created_at": 5}),
            ("plans", {"x": float("inf")}),
            ("plans", {"x": object()}),
        ],
    )
    def test_a_change_that_cannot_be_is_refused(
        self, store: Store, target: type[Plan] | str, changes: dict[str, object]
    ) -> None:
        with unchanged(store), pytest.raises(InvalidRecordError):
            store.claim(target, owner="me", set=changes)

    def test_the_rules_hold_for_what_a_claim_changes(self, store: Store) -> None:
        store.modify(Plan, "p2", lambda one: one.evolve(slug="s"))
        with unchanged(store):
            with pytest.raises(UniqueError):
                store.claim(Plan, owner="me", set={"slug": "s"})
            with pytest.raises(LimitExceededError):
                store.claim(Plan, owner="me", set={"title": "x" * (10 << 20)})

    def test_who_and_how_long_must_mean_something(self, store: Store) -> None:
        with unchanged(store):
            with pytest.raises(ValueError, match="owner"):
                store.claim(Plan, owner=" ")
            with pytest.raises(ValueError, match="lease_ms"):
                store.claim(Plan, owner="me", lease_ms=0)
            with pytest.raises(ValueError, match="lease_ms"):
                store.renew(Plan, "p0", token=1, lease_ms=-1)

    def test_a_record_that_does_not_fit_the_type_does_not_stand_in_the_way(self, store: Store) -> None:
        wrong = [Document("loose", {"id": f"a{number}", "title": 5}) for number in range(5)]
        store.create_many([*wrong, Document("loose", {"id": "b", "title": "x"})])
        before = [one.raw for one in store.lines("loose")][:5]
        lease = store.claim(Loose, owner="me")
        assert lease is not None
        assert lease.record.id == "b"
        assert store.claim(Loose, owner="me") is None
        assert [one.raw for one in store.lines("loose")][:5] == before, "what was passed over is as it was"
        untyped = store.claim("loose", owner="me")
        assert untyped is not None
        assert untyped.record.id == "a0", "and is leased to nobody"

    def test_a_change_that_makes_a_record_fit_takes_it(self, store: Store) -> None:
        store.create(Document("loose", {"id": "a", "title": 5}))
        lease = store.claim(Loose, owner="me", set={"title": "mended"})
        assert lease is not None
        assert lease.record.title == "mended"

    def test_two_handles_never_get_the_same_record(self, store: Store, tmp_path: Path) -> None:
        with Store.open(tmp_path, records=ALL, sync=QUIET) as other:
            assert [claim(one).record.id for one in (store, other, store)] == ["p0", "p1", "p2"]


class TestFencing:
    """A write with a token is made under a live lease, or not at all."""

    def test_every_kind_of_write_takes_the_token(self, store: Store) -> None:
        lease = claim(store)
        plan = store.update(lease.record.evolve(title="1"), token=lease.token)
        store.put(plan, token=lease.token)
        with store.batch() as batch:
            batch.put(plan, token=lease.token)
            batch.delete(Plan, plan.id, token=lease.token)

    def test_a_lease_that_ended_or_is_another_refuses(self, store: Store, time: Time) -> None:
        lease = claim(store, lease_ms=10)
        other = claim(store)
        wrong = other.token
        time.ms += 10
        plan = lease.record
        with unchanged(store):
            for token in (lease.token, wrong, 0):
                for write in (
                    lambda token: store.update(plan, token=token),
                    lambda token: store.put(plan, token=token),
                    lambda token: store.modify(Plan, plan.id, lambda one: one.evolve(title="late"), token=token),
                    lambda token: store.delete(Plan, plan.id, token=token),
                    lambda token: store.renew(Plan, plan.id, token=token),
                    lambda token: store.release(Plan, plan.id, token=token),
                ):
                    with pytest.raises(ClaimLostError):
                        write(token)

    def test_renewing_extends_from_now_and_releasing_frees(self, store: Store, time: Time) -> None:
        lease = claim(store, lease_ms=10)
        time.ms += 9
        assert store.renew(Plan, lease.record.id, token=lease.token, lease_ms=100) == time.ms + 100
        time.ms += 99
        store.put(lease.record, token=lease.token)
        store.release(Plan, lease.record.id, token=lease.token)
        assert claim(store).record.id == lease.record.id
        with pytest.raises(ClaimLostError):
            store.put(lease.record, token=lease.token)

    def test_a_deleted_record_has_no_lease(self, store: Store) -> None:
        lease = claim(store)
        store.delete(Plan, lease.record.id)
        store.put(lease.record)
        with pytest.raises(ClaimLostError):
            store.put(lease.record, token=lease.token)
        assert claim(store).record.id == lease.record.id
