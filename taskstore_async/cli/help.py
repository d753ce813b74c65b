"""Commands that tell how it works: help, prime, schema, completion."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from taskstore_async.cli.errors import UsageError
from taskstore_async.cli.invocation import Invocation, command


class Shell(StrEnum):
    """A shell that completes words."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@command("help")
def help_(
    tstore: Invocation,
    topic: Annotated[
        str | None,
        typer.Argument(metavar="[TOPIC]", help="A topic, or a command's name; all topics when there is none."),
    ] = None,
) -> None:
    """Explain a topic, or a command: exit-codes, filters, json, env; commands is the reference, man the manual page.

    Example: tstore help filters
    """
    from taskstore_async.cli.topics import TOPICS, help_of_command, topics  # noqa: PLC0415 - reason: texts

    if topic is None:
        tstore.out.rows(("topic", "what it explains"), list(topics()))
        return
    text = TOPICS[topic]() if topic in TOPICS else help_of_command(topic)
    if text is None:
        raise UsageError(f"{topic!r} is neither a topic nor a command; there are: {', '.join(TOPICS)}; tstore --help")
    tstore.out.lines(text.splitlines())


@command("prime")
def prime(tstore: Invocation) -> None:
    """Tell a coding agent, on one page, how to use this store: what is in it, the commands, and the rules.

    Put it where the agent reads: in its instructions, or at the start of a session. No store is needed.

    Example: tstore prime >> AGENTS.md
    """
    from taskstore_async.cli.priming import page  # noqa: PLC0415 - reason: texts

    tstore.out.lines(page(tstore).splitlines())


@command("schema")
def schema(
    tstore: Invocation,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[COMMAND]", help="The command; all of them when there is none, and errors."),
    ] = None,
) -> None:
    """Print the JSON Schema of what a command prints with --json; of each value, where it prints one per line.

    error is what is told on stderr when a command with --json fails.

    Example: tstore schema list
    """
    from taskstore_async.cli.schemas import SHAPES, schema_of  # noqa: PLC0415 - reason: every report's type

    if name is None:
        tstore.out.value({one: schema_of(one) for one in SHAPES})
        return
    if name not in SHAPES:
        raise UsageError(f"{name!r} prints no JSON; these do: {', '.join(SHAPES)}")
    tstore.out.value(schema_of(name))


@command("completion")
def completion(
    tstore: Invocation,
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell.", show_default=False)],
) -> None:
    """Print what makes a shell complete commands, options, collections, fields and ids.

    bash: eval "$(tstore completion bash)" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc, behind compinit; fish:
    tstore completion fish | source in config.fish.

    Example: tstore completion bash
    """
    from taskstore_async.cli.completion import SCRIPTS  # noqa: PLC0415 - reason: texts

    tstore.out.lines(SCRIPTS[shell.value].splitlines())
