"""One table from error class to exit code, and how an error is told."""

from __future__ import annotations

import errno
import re
import sys
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import typer

from taskstore_async import errors
from taskstore_async.cli.streams import let_go_of
from taskstore_async.cli.text import escape, json_of

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "ExitCode",
    "UsageError",
    "error_code_of",
    "errors_as_exit_codes",
    "errors_by_exit_code",
    "exit_code_of",
    "say",
    "tell",
]


class ExitCode(IntEnum):
    """What ``tstore`` ends with. The commands that git calls end as git wants it: 0, 1 or 2."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NO_STORE = 4
    CONFLICT = 5
    PROBLEMS = 6  #: a check found some
    LOCKED = 7
    INTERRUPTED = 130
    PIPE_CLOSED = 141  #: whoever read our output has gone, as after ``| head``


class UsageError(errors.TaskStoreError, ValueError):
    """The words of a command cannot mean anything; the message says what would."""


_CODES: Final[dict[type[BaseException], ExitCode]] = {
    UsageError: ExitCode.USAGE,
    errors.InvalidNameError: ExitCode.USAGE,
    errors.InvalidIdError: ExitCode.USAGE,
    errors.InvalidFilterError: ExitCode.USAGE,
    errors.InvalidQueryError: ExitCode.USAGE,
    errors.InvalidRecordError: ExitCode.USAGE,
    errors.InvalidRecordTypeError: ExitCode.USAGE,
    errors.LimitExceededError: ExitCode.USAGE,
    errors.AmbiguousIdError: ExitCode.USAGE,  # not 3: a script must not take it for "there is none"
    errors.NotFoundError: ExitCode.NOT_FOUND,
    errors.CannotResolveError: ExitCode.NOT_FOUND,
    errors.NoRevisionError: ExitCode.NOT_FOUND,
    errors.NoStoreError: ExitCode.NO_STORE,
    errors.AlreadyExistsError: ExitCode.CONFLICT,
    errors.StaleWriteError: ExitCode.CONFLICT,
    errors.UniqueError: ExitCode.CONFLICT,
    errors.MissingReferenceError: ExitCode.CONFLICT,
    errors.ReferencedError: ExitCode.CONFLICT,
    errors.ClaimLostError: ExitCode.CONFLICT,
    errors.ImportConflictError: ExitCode.CONFLICT,
    errors.UnresolvedConflictError: ExitCode.CONFLICT,
    errors.DeclarationConflictError: ExitCode.CONFLICT,
    errors.StoreLockedError: ExitCode.LOCKED,
    KeyboardInterrupt: ExitCode.INTERRUPTED,
    BrokenPipeError: ExitCode.PIPE_CLOSED,
}


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def exit_code_of(error: BaseException) -> ExitCode:
    """What a command ends with that met *error*: the code of its nearest class in the table, else 1."""
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), ExitCode.FAILED)


def errors_by_exit_code() -> dict[ExitCode, list[str]]:
    """What ``--json`` calls the errors that a command may end with, by its exit code."""
    found: dict[ExitCode, list[str]] = {ExitCode.FAILED: ["os"], ExitCode.USAGE: ["usage"]}
    for name in errors.__all__:
        kind: type[BaseException] = getattr(errors, name)
        code = next((_CODES[base] for base in kind.__mro__ if base in _CODES), ExitCode.FAILED)
        found.setdefault(code, []).append(_called(name))
    return found


def error_code_of(error: BaseException) -> str:
    """What ``--json`` calls an error, for good: ``not_found``, ``stale_write``, ``usage``; ``os`` for the disk."""
    if isinstance(error, OSError):
        return "os"
    kinds = (kind for kind in type(error).__mro__ if kind.__module__.startswith("taskstore_async."))
    known = next(kinds, type(error))
    return _called(known.__name__)


def _called(name: str) -> str:
    """``NotFoundError`` is ``not_found``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Error")).lower()


def tell(error: BaseException, message: str, *, as_json: bool, exit_code: int | None = None) -> None:
    """Tell an error, on stderr: in words, or as one line of JSON.

    The line is ``{"error": {"code", "message", "exit_code", "details"}}``; *details* are what the error knows, and
    *exit_code* is given where it is not the one of the table.
    """
    if not as_json:
        say(message)
        return
    details: dict[str, object] = {name: value for name, value in vars(error).items() if isinstance(value, _PLAIN)}
    shown: dict[str, object] = {
        "code": error_code_of(error),
        "message": message,
        "exit_code": int(exit_code_of(error)) if exit_code is None else exit_code,
        "details": details,
    }
    line = json_of({"error": shown}).decode()
    _print(escape(line) if sys.stderr.isatty() else line)


_PLAIN: Final = (str, int, float, tuple, list, dict, type(None))


def say(message: str) -> None:
    """Tell a person something: words go to stderr, so that results can be piped."""
    text = escape(message) if sys.stderr.isatty() else message
    _print(f"tstore: {text}")


def _print(line: str) -> None:
    with suppress(OSError):  # nobody can be told that; the exit code still tells
        print(line, file=sys.stderr)  # noqa: T201 - reason: printing is what a command line does


@contextmanager
def errors_as_exit_codes(*, as_json: bool = False) -> Generator[None, None, None]:
    """End the command with the exit code of an error, once the error has been told.

    Args:
        as_json: It is told to a program.

    Raises:
        typer.Exit: Instead of any error that the table or the operating system knows.
    """
    try:
        yield
    except BrokenPipeError as error:
        let_go_of("stdout")
        raise typer.Exit(exit_code_of(error)) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(exit_code_of(error)) from error
    except errors.TaskStoreError as error:
        tell(error, str(error), as_json=as_json)
        raise typer.Exit(exit_code_of(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = "make room" if error.errno in _FULL else "see that the path is right and that this user may use it"
        tell(error, f"{where}{error.strerror or error}; {hint}", as_json=as_json)
        raise typer.Exit(ExitCode.FAILED) from error
