"""Which driver git merges the journals with: the attributes travel with the repository, the configuration does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskstore_async.errors import GitError, NoRepositoryError
from taskstore_async.git.repository import Repository

if TYPE_CHECKING:
    from taskstore_async.storage.directory import Directory

__all__ = ["COMMAND", "DRIVER", "configure", "configured", "is_ours", "named", "unconfigure", "unconfigured", "warning"]

DRIVER: Final = "tstore"
COMMAND: Final = "tstore merge-driver %O %A %B %P"
_TITLE: Final = "merge JSONL record by record"
_SECTION: Final = f"merge.{DRIVER}"
_PROGRAMS: Final = ("tstore", "taskstore-merge", "taskstore_async")


def named(repository: Repository, directory: Directory) -> str | None:
    """The driver that the attributes name for a journal of the store; None when they name none.

    It is git that is asked: attributes may stand in several files, and a later or deeper one counts.
    """
    journal = f"{repository.relative(directory.path)}/any.jsonl"
    value = repository.run("check-attr", "-z", "merge", "--", journal).out.split(b"\0")[2].decode(errors="replace")
    return None if value in {"unspecified", "unset", "set"} else value


def configured(repository: Repository) -> str | None:
    """The command that stands behind the driver's name in this clone; None when there is none."""
    return repository.ask("config", "--get", f"{_SECTION}.driver").text or None


def is_ours(command: str) -> bool:
    """Whether a configured command is this program's, under whichever name and wherever it stands."""
    return any(program in command for program in _PROGRAMS)


def configure(repository: Repository) -> None:
    """Put the command behind the driver's name, for this clone and its linked working trees."""
    repository.run("config", "--local", f"{_SECTION}.name", _TITLE)
    repository.run("config", "--local", f"{_SECTION}.driver", COMMAND)


def unconfigure(repository: Repository, *, dry_run: bool = False) -> bool:
    """Take the driver's name out of this clone's configuration, or only tell. Returns whether it was there."""
    if repository.ask("config", "--local", "--get-regexp", rf"^merge\.{DRIVER}\.").code:
        return False
    if not dry_run:
        repository.run("config", "--local", "--remove-section", _SECTION)
    return True


def unconfigured(repository: Repository, directory: Directory) -> str | None:
    """What to tell a person whose clone lacks the driver that the attributes name; None when all is well."""
    if configured(repository) is not None or named(repository, directory) != DRIVER:
        return None
    return (
        f"git merges {directory.path.name}/*.jsonl here as plain text, and may lose records: this clone has no driver "
        f"called {DRIVER}; run: tstore install-merge-driver"
    )


def warning(directory: Directory) -> str | None:
    """As `unconfigured`, for a store of which nobody knows whether it is under git."""
    if not any((folder / ".git").exists() for folder in directory.path.parents):
        return None  # without the price of starting git
    try:
        return unconfigured(Repository.around(directory.path), directory)
    except (NoRepositoryError, GitError):
        return None
