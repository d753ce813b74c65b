"""Commands that set git up: install-hooks, install-merge-driver, uninstall-hooks; and hook, which git runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taskstore_async.cli.errors import ExitCode
from taskstore_async.cli.invocation import Invocation, command

if TYPE_CHECKING:
    from taskstore_async.git import Installation

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")]


@command("install-hooks")
def install_hooks(tstore: Invocation, *, dry_run: DryRun = False) -> None:
    """Set git up for the store, in this clone: the merge driver, and hooks that keep records and commits in step.

    The hooks are a few marked lines at the top of pre-commit, post-merge, post-checkout, post-rewrite and pre-push.
    What stands there stays; a hook that is not ours to change is named, with the line to add, and none is written into
    a directory that core.hooksPath names.

    Example: tstore install-hooks --dry-run
    """
    from taskstore_async.git import install  # noqa: PLC0415 - reason: --help needs no git

    _print(tstore, install(tstore.place().path, dry_run=dry_run))
    if dry_run:
        tstore.out.words("nothing was changed")


@command("install-merge-driver")
def install_merge_driver(tstore: Invocation, *, dry_run: DryRun = False) -> None:
    """Have git merge the store's files record by record, in this clone. Every clone needs it once.

    Example: tstore install-merge-driver
    """
    from taskstore_async.git import install  # noqa: PLC0415 - reason: --help needs no git

    _print(tstore, install(tstore.place().path, hooks=False, dry_run=dry_run))
    if dry_run:
        tstore.out.words("nothing was changed")


@command("uninstall-hooks")
def uninstall_hooks(
    tstore: Invocation,
    *,
    merge_driver: Annotated[
        bool, typer.Option("--merge-driver", help="Take the merge driver out of this clone's configuration too.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Take our lines out of this clone's hooks. What else stands in them stays.

    Example: tstore uninstall-hooks
    """
    from taskstore_async.git import uninstall  # noqa: PLC0415 - reason: --help needs no git

    _print(tstore, uninstall(tstore.place().path, driver=merge_driver, dry_run=dry_run))
    if dry_run:
        tstore.out.words("nothing was changed")


@command("hook")
def hook(
    tstore: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The hook's name, such as pre-commit.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[…]", help="What git gave it.")] = None,
) -> None:
    """Do what a hook of git is there for; the lines of install-hooks run it, in the topmost directory of the tree.

    It ends with 0 whatever goes wrong, but with 5 to stop a merge commit that would drop records.

    Example: tstore hook pre-commit
    """
    from taskstore_async.git.events import main  # noqa: PLC0415 - reason: --help needs no git

    tstore.code = ExitCode(main([name, *(arguments or [])]))


def warn_about_driver(tstore: Invocation) -> None:
    """Say it when the store's attributes name the merge driver, and this clone does not have it."""
    from taskstore_async.git.attributes import warning  # noqa: PLC0415 - reason: --help needs no git
    from taskstore_async.storage.directory import Directory  # noqa: PLC0415 - reason: as above

    found = warning(Directory.at(tstore.place().path, create=False))
    if found:
        tstore.out.words(found)


def _print(tstore: Invocation, done: Installation) -> None:
    if tstore.out.for_programs:
        tstore.out.value(done)
        return
    tstore.out.rows(("what", "action", "where"), [(step.what, step.action.value, step.where) for step in done.steps])
    for step in done.steps:
        if step.note:
            tstore.out.words(f"{step.what}: {step.note}")
