from __future__ import annotations

import signal
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from taskstore_async import ClaimLostError, Store
from tests.processes.child import Child
from tests.processes.records import Job

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes.child import Event

JOBS = 300
LONG_MS = 600_000
SHORT_MS = 1_500
KILLED_JOBS = 150
KILLS = 6


def with_jobs(path: Path, count: int) -> None:
    with Store.open(path, records=[Job]) as store:
        store.create_many([Job(id=f"j{number:03}") for number in range(count)])


def at_work(nursery: Child, path: Path, name: str) -> None:
    backend = "trio" if int(name[1:]) % 2 else "asyncio"
    nursery.tell("work", store=str(path), backend=backend, name=name, lease_ms=400)


class TestClaim:
    """A job is claimed by one process at a time, and a dead owner keeps it no longer than its lease."""

    def test_three_processes_claim_every_job_once(self, tmp_path: Path) -> None:
        with_jobs(tmp_path, JOBS)
        with ExitStack() as stack:
            children = [
                stack.enter_context(
                    Child("claim", store=tmp_path, backend=backend, name=backend + name, lease_ms=LONG_MS)
                )
                for backend, name in (("asyncio", "-1"), ("trio", "-2"), ("asyncio", "-3"))
            ]
            for child in children:
                child.hear_of("ready")
            for child in children:
                child.tell("claim")
            for child in children:
                child.hear_of("none")
            for child in children:
                child.finish()
            claims = [event for child in children for event in child.told("claimed")]
            takers = [child for child in children if child.told("claimed")]
        assert sorted(claim["claimed"] for claim in claims) == [f"j{number:03}" for number in range(JOBS)]
        assert len({claim["token"] for claim in claims}) == JOBS
        assert len(takers) > 1
        with Store.open(tmp_path, records=[Job]) as store:
            assert {job.id: job.by for job in store.list(Job)} == {claim["claimed"]: claim["by"] for claim in claims}
            assert store.check().ok

    def test_each_is_finished_once_whoever_dies_or_dawdles(self, tmp_path: Path) -> None:
        with_jobs(tmp_path, KILLED_JOBS)
        told: list[Event] = []
        dead: set[str] = set()
        with ExitStack() as stack:
            nurseries = [stack.enter_context(Child("nursery")) for _ in range(3)]
            for number, nursery in enumerate(nurseries):
                nursery.hear_of("ready")
                at_work(nursery, tmp_path, f"p{number}")
            for turn in range(KILLS):
                victim = nurseries[turn % 3]
                for _ in range(2 + 3 * turn):
                    if "left" in victim.hear_until(lambda event: not {"claimed", "done", "left"}.isdisjoint(event)):
                        break
                victim.tell("kill")
                assert victim.hear_of("ended")["ended"] in {0, signal.SIGKILL}
                dead.add(f"p{turn}")
                at_work(victim, tmp_path, f"p{turn + 3}")
            for nursery in nurseries:
                nursery.tell("wait")
                assert nursery.hear_of("ended")["ended"] == 0
                nursery.finish()
                told += nursery.events
        with Store.open(tmp_path, records=[Job]) as store:
            jobs = {job.id: job for job in store.list(Job)}
            assert store.check().ok
        assert {job.status for job in jobs.values()} == {"done"}
        assert [event for event in told if "lost" in event], "nobody dawdled"
        for job in jobs.values():
            claims = sorted((event for event in told if event.get("claimed") == job.id), key=lambda one: one["token"])
            assert all(after["token"] >= before["until"] for before, after in pairwise(claims)), "two had it at once"
            done = [event for event in told if event.get("done") == job.id]
            assert len(done) <= 1, "finished twice"
            if done:
                assert done[0]["by"] == job.by
                assert done[0]["at"] <= claims[-1]["until"], "written when the lease had ended"
                assert done[0]["token"] == claims[-1]["token"], "claimed again when it was done, or late"
            else:
                assert job.by in dead, "finished, and nobody was told"

    def test_what_a_killed_owner_held_is_claimed_again_and_its_late_writes_are_refused(self, tmp_path: Path) -> None:
        with_jobs(tmp_path, 40)
        with (
            Child("claim", store=tmp_path, backend="trio", name="victim", lease_ms=SHORT_MS) as victim,
            Child("claim", store=tmp_path, backend="asyncio", name="heir", lease_ms=LONG_MS) as heir,
        ):
            victim.hear_of("ready")
            heir.hear_of("ready")
            victim.tell("claim")
            for _ in range(10):
                victim.hear_of("claimed")
            victim.kill()
            victim.hear_out()
            lost = {event["claimed"]: event for event in victim.told("claimed")}
            claims: dict[str, dict[str, object]] = {}
            while len(claims) < 40:  # at once what is free; the rest when the leases have ended
                heir.tell("claim")
                heir.hear_of("none")
                claims = {event["claimed"]: event for event in heir.told("claimed")}
            heir.finish()
            assert len(heir.told("claimed")) == 40, "a job was claimed twice"
        assert len(lost) >= 10
        with Store.open(tmp_path, records=[Job]) as store:
            for job_id, old in lost.items():
                new = claims[job_id]
                assert isinstance(new["token"], int)
                assert new["token"] >= old["until"], "claimed again before the lease had ended"
                job = store.get(Job, job_id)
                assert job is not None
                assert job.by == "heir"
                for write in (
                    lambda job=job, old=old: store.update(job.evolve(status="done"), token=old["token"]),
                    lambda job=job, old=old: store.put(job.evolve(status="done"), token=old["token"]),
                    lambda job=job, old=old: store.delete(Job, job.id, token=old["token"]),
                    lambda job=job, old=old: store.renew(Job, job.id, token=old["token"]),
                    lambda job=job, old=old: store.release(Job, job.id, token=old["token"]),
                ):
                    with pytest.raises(ClaimLostError):
                        write()
                assert store.get(Job, job_id) == job
                assert store.update(job.evolve(status="done"), token=new["token"]).status == "done"
