"""The command that examines: doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from taskstore_async.cli.errors import ExitCode
from taskstore_async.cli.invocation import Invocation, command
from taskstore_async.cli.text import human_count


@command("doctor")
def doctor(
    tstore: Invocation,
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without loss, and look again.")] = False,
) -> None:
    """Examine the store, and the git around it by trying what git would run; exit 6 when something is wrong.

    Example: tstore doctor --fix
    """
    from taskstore_async.git.doctor import doctor as examined  # noqa: PLC0415 - reason: --help needs no git

    report = examined(tstore.place().path, fix=fix)
    if tstore.out.for_programs:
        tstore.out.value(report)
    else:
        rows = [
            ("fixed" if one.fixed else "error" if one.error else "note", one.id, one.seen, one.failure or one.advice)
            for one in report.findings
        ]
        tstore.out.rows(("severity", "id", "seen", "what to do"), rows)
        left = sum(one.error and not one.fixed for one in report.findings)
        tstore.out.words(f"{human_count(left, 'problem')}" if left else "all is well")
        if any(one.fixable and not one.fixed and not one.failure for one in report.findings):
            tstore.out.words("some of it is mended by: tstore doctor --fix")
    if not report.ok:
        tstore.code = ExitCode.PROBLEMS
