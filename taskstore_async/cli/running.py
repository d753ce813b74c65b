"""The program: what stands before a command's name, and running it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from taskstore_async import __version__
from taskstore_async.cli.errors import ExitCode, UsageError, errors_as_exit_codes, tell
from taskstore_async.cli.invocation import (
    ColorOption,
    Invocation,
    JsonFlag,
    JsonlFlag,
    RecordsOption,
    StoreOption,
    app,
    invocation_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run"]


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - reason: typer calls it so
    if wanted:
        typer.echo(f"tstore {__version__}")
        raise typer.Exit


@app.callback()
def tstore(
    ctx: typer.Context,
    store: StoreOption = None,
    records: RecordsOption = None,
    *,
    json: JsonFlag = False,
    jsonl: JsonlFlag = False,
    color: ColorOption = None,
    version: Annotated[  # noqa: ARG001 - reason: its callback does it
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Typed records in plain JSONL files under .taskstore/: look, change, sync and repair.

    The store is found by walking up from the working directory; TSTORE_DIR beats that, and --store beats both. Results
    go to stdout: tables on a terminal, TSV in a pipe, JSON with --json and --jsonl. Words go to stderr.

    Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 no store, 5 conflict, 6 a check found problems, 7 locked. More
    is told by tstore help, which lists its topics.

    Example: tstore list issues -f status=open
    """
    with errors_as_exit_codes():
        ctx.obj = invocation_of(store=store, records=records, json=json, jsonl=jsonl, color=color, above=Invocation())


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; see `taskstore_async.cli.main`."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = not {"--json", "--jsonl"}.isdisjoint(words)
    try:
        with errors_as_exit_codes(as_json=as_json):  # of what is printed for no command, such as --help
            code = app(words or ["--help"], prog_name="tstore", standalone_mode=False)
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except typer.Exit as ended:
        return ended.exit_code
    except Exception as error:
        if not _is_usage(error):
            raise
        _say_usage(error, as_json=as_json)
        return ExitCode.USAGE
    return int(code or 0)


def _is_usage(error: Exception) -> bool:
    """Whether the words could not be parsed; by its bases' names: some typers bring a click of their own."""
    return any(base.__name__ == "UsageError" for base in type(error).__mro__) and hasattr(error, "format_message")


def _say_usage(error: Exception, *, as_json: bool) -> None:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "tstore"
    message = getattr(error, "format_message")().rstrip(".")  # noqa: B009 - reason: see _is_usage
    text = f"{message}; see: {path} --help"
    tell(UsageError(text), text, as_json=as_json)
