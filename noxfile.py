"""The development sessions: ``nox -l`` lists them, ``nox`` runs the usual ones on what is installed."""

from __future__ import annotations

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lint", "types", "docs"]


def install(session: nox.Session) -> None:
    """Install the package for development, as CONTRIBUTING.md says."""
    session.install("-e", ".[dev]")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on every installed Python that the classifiers name."""
    install(session)
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def coverage(session: nox.Session) -> None:
    """Measure the branches of core and storage that the tests take."""
    install(session)
    session.run("pytest", "--cov", "--cov-report=term", *session.posargs)


@nox.session(python=PYTHONS[0])
def lint(session: nox.Session) -> None:
    """Lint, check the formatting, and hold the floors apart."""
    install(session)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session(python=PYTHONS[0])
def types(session: nox.Session) -> None:
    """Check the types twice: mypy and pyright disagree often enough."""
    install(session)
    session.run("mypy")
    session.run("pyright")


@nox.session(python=PYTHONS[0])
def bench(session: nox.Session) -> None:
    """Run the benchmarks' full profile, and write docs/performance.md; with words, what they say instead."""
    session.install("-e", ".[dev,bench]")
    full = ["--profile", "full", "--json", "benchmarks/report.json", "--page", "docs/performance.md"]
    session.run("python", "-m", "benchmarks", *(session.posargs or full))


@nox.session(python=PYTHONS[0])
def docs(session: nox.Session) -> None:
    """Run every example in README.md and docs/, and follow every link between them."""
    install(session)
    session.run("pytest", "tests/test_docs.py", *session.posargs)


@nox.session(python=PYTHONS[0])
def scale(session: nox.Session) -> None:
    """Hold the answers about ten thousand runs with a hundred thousand tasks to those of a naive script."""
    install(session)
    session.run("pytest", "tests/tracker/test_scale.py", *session.posargs, env={"TSTORE_TEST_RUNS": "10000"})


@nox.session(python=PYTHONS[0])
def soak(session: nox.Session) -> None:
    """Do everything at once for about ten minutes, and see that memory, descriptors, threads and the log stay flat."""
    install(session)
    patient = ["-o", "faulthandler_timeout=3600"]
    session.run("pytest", *patient, "tests/crash/test_soak.py", *session.posargs, env={"TASKSTORE_SOAK_ROUNDS": "3000"})


@nox.session(python=PYTHONS[0])
def crash(session: nox.Session) -> None:
    """Kill 3,000 processes and 50 at each failpoint, fail 500 runs, cut power 2,000 times, plant bugs, and so on.

    That includes 100,000 schedules of the simulator, and 7,500 of them for the engine.

    As root on Linux it also cuts the power of real file systems 300 times; `apt install e2fsprogs xfsprogs` makes both.
    """
    install(session)
    long = {
        "TASKSTORE_KILLS": "3000",
        "TASKSTORE_FAILPOINT_KILLS": "50",
        "TASKSTORE_FAULTS": "500",
        "TASKSTORE_CUTS": "2000",
        "TASKSTORE_CUTS_REAL": "300",
        "TASKSTORE_FUZZ": "100000",
    }
    patient = ["-o", "faulthandler_timeout=14400"]
    session.run("pytest", *patient, "tests/crash", "tests/faults", "tests/hostile", *session.posargs, env=long)
    random = {"TASKSTORE_HISTORIES": "1000", "TASKSTORE_MODEL": "1000", "HYPOTHESIS_PROFILE": "new"}
    compared = ["tests/processes/test_linearizability.py", "tests/actor/test_model.py"]
    session.run("pytest", *patient, *compared, *session.posargs, env=random)
    simulated = ["tests/storage/test_simulator.py", "tests/storage/test_engine_against_simulator.py"]
    session.run("pytest", *patient, *simulated, *session.posargs, env={"HYPOTHESIS_PROFILE": "thorough"})
    planted = {"TASKSTORE_PLANTED": "1", "TASKSTORE_CUTS_REAL": "32"}
    session.run("pytest", *patient, "tests/crash/test_planted.py", *session.posargs, env=planted)


@nox.session(python=PYTHONS[0])
def fuzz(session: nox.Session) -> None:
    """Let atheris look for bytes that break the reader or the merge, for ten minutes each; or what is said instead."""
    install(session)
    try:
        session.install("--only-binary", ":all:", "atheris")
    except nox.command.CommandFailed:
        session.skip("atheris has no wheel for this Python on this machine")
    found = session.create_tmp()
    for target in ("reader", "merge"):
        flags = session.posargs or ["-max_total_time=600"]
        session.run("python", "-m", "tests.hostile.atheris_targets", target, found, *flags)
