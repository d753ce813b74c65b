"""The page that tells a coding agent how to use a store, made from the commands and from what is in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskstore_async.cli.reference import commands_by_family
from taskstore_async.cli.text import escape, human_count
from taskstore_async.errors import NoStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskstore_async.cli.invocation import Invocation

__all__ = ["page"]

_RULES: Final = """\
# Records in this project: tstore

Tasks, plans and other records are kept in `.taskstore/`, a line of JSON per version of a record. `tstore` reads and
writes them; several agents may do so at once, and nothing that it has acknowledged is lost.

## Rules

- Look before you write: `tstore list COLL --json`, `tstore show ID --json`. The beginning of an id is enough.
- Change with `tstore update COLL ID field=text number:=2`; fields that you do not name stay.
- What you decided on may have changed: `--if-updated-at MS` with the `updated_at` that you read. Exit code 5: somebody
  was faster; read it again, and decide again.
- `--json` prints one JSON value on stdout; a failure is one line of JSON on stderr, with a `code` that stays the same.
- Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 no store, 5 conflict, 6 a check found problems, 7 locked.
- Do not edit `.taskstore/*.jsonl` when a command can do it. After an edit by hand, or by git: `tstore sync`.
- Commit `.taskstore/` with the work that it describes. `store.db` is not committed, and can be deleted after
  `tstore flush`.
- After a merge: `tstore conflicts`. When in doubt: `tstore doctor`, which says what to do.
- `delete`, `import`, `compact`, `restore` and `clean` have `--dry-run`: see what would happen first.
"""


def page(tstore: Invocation) -> str:
    """The page, in Markdown; with what is in the store, if there is one."""
    return "\n".join([_RULES, *_contents(tstore), *_commands()]) + "\n"


def _contents(tstore: Invocation) -> Iterator[str]:
    try:
        with tstore.open() as store:
            found = store.collections()
    except NoStoreError:
        yield "There is no store here yet; `tstore init` makes one.\n"
        return
    yield "## In this store\n"
    for one in found:
        fields = f"; indexed: {', '.join(one.indexed)}" if one.indexed else ""
        yield f"- `{one.name}`: {human_count(one.records, 'record')}{escape(fields)}"
    yield "" if found else "Nothing yet; `tstore create COLL title='…'` makes a collection with its first record.\n"


def _commands() -> Iterator[str]:
    yield "## Commands"
    yield ""
    yield "`tstore help COMMAND` tells the rest, `tstore help filters` what `-f` takes."
    for title, some in commands_by_family().items():
        yield ""
        yield f"{title}:"
        yield ""
        for one in some:
            yield f"- `{one.usage}`: {one.summary}"
            if one.example and one.options:
                yield f"  `{one.example}`"
