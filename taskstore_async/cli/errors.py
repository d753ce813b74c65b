"""One table from error class to exit code, and how an error is told."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import typer

from taskstore_async import errors
from taskstore_async.cli.text import escape

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["ExitCode", "UsageError", "errors_as_exit_codes", "exit_code_of", "say"]


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
    errors.InvalidRecordError: ExitCode.USAGE,
    errors.InvalidRecordTypeError: ExitCode.USAGE,
    errors.LimitExceededError: ExitCode.USAGE,
    errors.AmbiguousIdError: ExitCode.USAGE,  # not 3: a script must not take it for "there is none"
    errors.NotFoundError: ExitCode.NOT_FOUND,
    errors.NoStoreError: ExitCode.NO_STORE,
    errors.AlreadyExistsError: ExitCode.CONFLICT,
    errors.StaleWriteError: ExitCode.CONFLICT,
    errors.UniqueError: ExitCode.CONFLICT,
    errors.MissingReferenceError: ExitCode.CONFLICT,
    errors.ReferencedError: ExitCode.CONFLICT,
    errors.ClaimLostError: ExitCode.CONFLICT,
    errors.ImportConflictError: ExitCode.CONFLICT,
    errors.DeclarationConflictError: ExitCode.CONFLICT,
    errors.StoreLockedError: ExitCode.LOCKED,
    KeyboardInterrupt: ExitCode.INTERRUPTED,
    BrokenPipeError: ExitCode.PIPE_CLOSED,
}


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def exit_code_of(error: BaseException) -> ExitCode:
    """What a command ends with that met *error*: the code of its nearest class in the table, else 1."""
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), ExitCode.FAILED)


def say(message: str) -> None:
    """Tell a person something: words go to stderr, so that results can be piped."""
    text = escape(message) if sys.stderr.isatty() else message
    print(f"tstore: {text}", file=sys.stderr)  # noqa: T201 - reason: printing is what a command line does


@contextmanager
def errors_as_exit_codes() -> Generator[None, None, None]:
    """End the command with the exit code of an error, once the error has been told.

    Raises:
        typer.Exit: Instead of any error that the table or the operating system knows.
    """
    try:
        yield
    except BrokenPipeError as error:
        _let_go_of_stdout()
        raise typer.Exit(exit_code_of(error)) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(exit_code_of(error)) from error
    except errors.TaskStoreError as error:
        say(str(error))
        raise typer.Exit(exit_code_of(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = "make room" if error.errno in _FULL else "see that the path is right and that this user may use it"
        say(f"{where}{error.strerror or error}; {hint}")
        raise typer.Exit(ExitCode.FAILED) from error


def _let_go_of_stdout() -> None:
    """Keep the interpreter from complaining at exit about what it can no longer write."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):  # stdout is no file of ours
        pass
