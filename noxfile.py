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
def docs(session: nox.Session) -> None:
    """Run every example in README.md and docs/, and follow every link between them."""
    install(session)
    session.run("pytest", "tests/test_docs.py", *session.posargs)
