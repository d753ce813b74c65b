"""Trying out what git would run: the merge driver on three lines, a hook, and the program that the PATH leads to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskstore_async.git.attributes import DRIVER
from taskstore_async.git.events import PROBE
from taskstore_async.git.repository import Repository, cleared

if TYPE_CHECKING:
    from taskstore_async.git.hooks import Hook

__all__ = ["answers", "merge_failure", "version_found"]

_JOURNAL: Final = "probe.jsonl"
_VERSIONS: Final = (
    b'{"id":"a","f":1,"g":1,"updated_at":1}\n',
    b'{"id":"a","f":2,"g":1,"updated_at":2}\n',
    b'{"id":"a","f":1,"g":2,"updated_at":3}\n',
)
_MERGED: Final = b'{"id":"a","f":2,"g":2,"updated_at":4}\n'
_ONLY_OURS: Final = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_SYSTEM": os.devnull}


def version_found(repository: Repository) -> str | None:
    """The version of the ``tstore`` that git finds on its PATH; None when it finds none that runs."""
    reply = repository.ask("-c", "alias.tstore-probe=!tstore --version", "tstore-probe")
    name, _, version = reply.text.partition(" ")
    return version if reply.code == 0 and name == "tstore" else None


def merge_failure(command: str) -> str | None:
    """What goes wrong when git merges three versions of a line with the driver *command*; None when nothing does.

    Git does it in a repository that is made for this, in a temporary directory.
    """
    with tempfile.TemporaryDirectory(prefix="tstore-probe-") as folder:
        repository = Repository(Path(folder), {**cleared(os.environ), **_ONLY_OURS})
        repository.run("init", "--quiet", "--template=", ".")
        journal = repository.top / _JOURNAL
        (repository.top / ".gitattributes").write_text(f"*.jsonl -text merge={DRIVER}\n", encoding="ascii")
        stages: list[bytes] = []
        for stage, version in enumerate(_VERSIONS, start=1):
            blob = repository.run("hash-object", "-w", "--stdin", stdin=version).text
            stages.append(f"100644 {blob} {stage}\t{_JOURNAL}\n".encode())
        repository.run("update-index", "--index-info", stdin=b"".join(stages))
        reply = repository.ask("-c", f"merge.{DRIVER}.driver={command}", "checkout", "--merge", "--", _JOURNAL)
        found = journal.read_bytes() if journal.exists() else b""
    if found == _MERGED:
        return None
    said = reply.err.strip().splitlines()
    if found == _VERSIONS[1]:
        return f"it left our side as it was, and theirs is lost ({said[-1] if said else 'without a word'})"
    return f"it made {found[:200]!r} of three lines"


def answers(repository: Repository, hook: Hook) -> str | None:
    """Run *hook*, which has our lines at its top, as far as them; the version that answered, None when none did."""
    token = f"tstore-probe-{os.getpid()}"
    reply = repository.ask("hook", "run", "--ignore-missing", hook.name, environment={PROBE: token})
    for line in (reply.out.decode(errors="replace") + reply.err).splitlines():  # git sends what hooks say to stderr
        said, _, rest = line.partition(" ")
        name, _, version = rest.partition(" ")
        if (said, name) == (token, hook.name):
            return version
    return None
