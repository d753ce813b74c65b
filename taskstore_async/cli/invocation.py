"""What all commands share: the application, the options that go with every command, and opening the store."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, ParamSpec

import msgspec
import typer
from typer.core import TyperCommand, TyperGroup

from taskstore_async.cli.errors import ExitCode, UsageError, errors_as_exit_codes
from taskstore_async.cli.finding import Place, find_store
from taskstore_async.cli.output import Color, Form, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from taskstore_async.core.record import Record
    from taskstore_async.storage.store import Store

__all__ = [
    "LIST_TYPE",
    "Collection",
    "ColorOption",
    "Invocation",
    "JsonFlag",
    "JsonlFlag",
    "RecordsOption",
    "StoreOption",
    "app",
    "command",
    "offer",
    "registered",
]

P = ParamSpec("P")

StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="DIR", help="The store, or the directory that holds it; instead of TSTORE_DIR."),
]
RecordsOption = Annotated[
    str | None,
    typer.Option("--records", metavar="MODULE", help="A module of record types to declare; instead of TSTORE_RECORDS."),
]
ColorOption = Annotated[
    Color | None,
    typer.Option("--color", help="Colours: auto is on a terminal, unless NO_COLOR is set.", show_default=False),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
JsonlFlag = Annotated[bool, typer.Option("--jsonl", help="Print a JSON value per line; stored lines as they are.")]
Collection = Annotated[str, typer.Argument(metavar="COLL", help="The collection, such as issues.", show_default=False)]

LIST_TYPE: Final = "list-type"
_WHOLE: Final = 1_000  #: characters of a first sentence: never cut
registered: Final[dict[str, Callable[..., None]]] = {}
"""The functions behind the commands, by name."""


class Commands(TyperGroup):
    """The commands, and ``list-PLURAL`` for every record type."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - reason: some typers bring a click of their own
        """Find the command that *args* begin with; ``list-loops`` is ``list-type loops``."""
        name, *rest = args
        if name.startswith("list-") and name not in self.commands:
            args = [LIST_TYPE, name.removeprefix("list-"), *rest]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002 - reason: as above; its caller gives both
        """Write the commands by what they are about, each with its whole first sentence."""
        from taskstore_async.cli.families import MODULES  # noqa: PLC0415 - reason: only --help needs it
        from taskstore_async.cli.reference import FAMILY_TITLES  # noqa: PLC0415 - reason: as above

        wide = max(map(len, self.commands), default=0)
        for family, title in FAMILY_TITLES.items():
            offered = [(name, self.commands[name]) for name in MODULES[family] if name in self.commands]
            if offered:
                with formatter.section(title):
                    formatter.write_dl([(f"{name:{wide}}", one.get_short_help_str(_WHOLE)) for name, one in offered])


class Command(TyperCommand):
    """A command whose usage says nothing of hidden arguments."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401 - reason: some typers bring a click of their own
        """What stands behind the name; typer writes an argument without a name of its own as []."""
        return [piece for piece in super().collect_usage_pieces(ctx) if piece != "[]"]


app: Final = typer.Typer(
    name="tstore",
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Invocation(msgspec.Struct, kw_only=True, dict=True):
    """One call of the program, as far as it is the same for every command.

    Attributes:
        store: What ``--store`` says.
        records: What ``--records`` says.
        form: What results look like; None leaves it to where they go.
        color: What ``--color`` says.
        code: What the command ends with when it meets no error.
    """

    store: str | None = None
    records: str | None = None
    form: Form | None = None
    color: Color | None = None
    code: ExitCode = ExitCode.OK

    @functools.cached_property
    def out(self) -> Output:
        """Where results go."""
        return Output(self.form, self.color or Color.AUTO)

    def place(self, *, create: bool = False, upwards: bool = True) -> Place:
        """Where the store is; see `find_store`."""
        return find_store(self.store, create=create, upwards=upwards)

    def open(self, *, create: bool = False) -> AbstractContextManager[Store]:
        """Open the store for a block, flushing at its end; what should be known about it is said then.

        Args:
            create: Make one when there is none: what ``init`` and the writes of records do.

        Raises:
            NoStoreError: There is none.
            TaskStoreError: As for `Store.open`.
        """
        from taskstore_async.cli.opening import opened  # noqa: PLC0415 - reason: --help needs no engine

        return opened(self.place(create=create), create=create, records=self.record_types())

    def open_or_rehearse(self, *, dry_run: bool) -> AbstractContextManager[Store]:
        """The store, made when there is none; for a dry run then one that goes away."""
        from taskstore_async.cli.opening import store_exists  # noqa: PLC0415 - reason: as in open
        from taskstore_async.storage.store import Store  # noqa: PLC0415 - reason: as in open

        if dry_run and not store_exists(self.place(create=True)):
            return Store.temporary(records=self.record_types())
        return self.open(create=True)

    def record_types(self) -> list[type[Record]]:
        """The record types of the module that ``--records`` or ``TSTORE_RECORDS`` names."""
        from taskstore_async.cli.opening import record_types  # noqa: PLC0415 - reason: as in open

        return record_types(self.records)


def invocation_of(
    *, store: str | None, records: str | None, json: bool, jsonl: bool, color: Color | None, above: Invocation
) -> Invocation:
    """The options behind a command's name, and those before it (*above*) where there are none."""
    if json and jsonl:
        raise UsageError("--json and --jsonl contradict each other; leave one of them out")
    form = Form.JSON if json else Form.JSONL if jsonl else above.form
    return Invocation(
        store=store or above.store, records=records or above.records, form=form, color=color or above.color
    )


def command(
    name: str,
) -> Callable[[Callable[Concatenate[Invocation, P], None]], Callable[Concatenate[Invocation, P], None]]:
    """Make a function a command, once offered: it gets an `Invocation`, and the options that every command has."""

    def register(function: Callable[Concatenate[Invocation, P], None]) -> Callable[Concatenate[Invocation, P], None]:
        registered[name] = function
        return function

    return register


def offer(names: Iterable[str]) -> None:
    """Add registered commands to the program, in this order; what typer makes of one costs a start 1 ms."""
    known = {one.name for one in app.registered_commands}
    for name in names:
        if name not in known:
            _add(name, registered[name])


def _add(name: str, function: Callable[..., None]) -> None:
    # Typer makes options of what a signature says, so the shared ones are added there.
    first, *own = inspect.signature(function, eval_str=True).parameters.values()
    del first
    wrapper = functools.partial(_run, function)
    parameters = [*own, *_shared()]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # reason: what inspect reads first
    wrapper.__annotations__ = {one.name: one.annotation for one in parameters}
    app.command(name, cls=Command, help=inspect.getdoc(function))(wrapper)


def _shared() -> Iterator[inspect.Parameter]:
    for name, annotation, default in (
        ("ctx", typer.Context, inspect.Parameter.empty),
        ("store", StoreOption, None),
        ("records", RecordsOption, None),
        ("json", JsonFlag, False),
        ("jsonl", JsonlFlag, False),
        ("color", ColorOption, None),
    ):
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _run(
    function: Callable[..., None],
    *,
    ctx: typer.Context,
    store: str | None,
    records: str | None,
    json: bool,
    jsonl: bool,
    color: Color | None,
    **own: Any,  # noqa: ANN401 - reason: typer has checked them against the function's signature
) -> None:
    """Run a command, and end with its exit code."""
    with errors_as_exit_codes(as_json=json or jsonl or ctx.obj.form in {Form.JSON, Form.JSONL}):
        tstore = invocation_of(store=store, records=records, json=json, jsonl=jsonl, color=color, above=ctx.obj)
        function(tstore, **own)
        if tstore.code is not ExitCode.OK:
            raise typer.Exit(tstore.code)
