"""The lines that stand in a hook, between two marks, and getting them into a shell script and out again.

They stand at the top, right behind the first line: a hook that ends early or replaces itself (``exec``) has passed
them, and the hook's exit code stays its own.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["HOOKS", "REFUSED", "has", "insert", "is_call", "is_current", "is_shell", "line_for", "remove"]

HOOKS: Final[tuple[str, ...]] = ("pre-commit", "post-merge", "post-checkout", "post-rewrite", "pre-push")
REFUSED: Final = 5  #: what ``tstore hook`` ends with to stop git; any other end, of a broken program too, does not

_BEGIN: Final = b"# >>> tstore >>>"
_END: Final = b"# <<< tstore <<<"
_BLOCK: Final = re.compile(rb"^# >>> tstore >>>\r?$.*?^# <<< tstore <<<\r?(?:\n|\Z)", re.MULTILINE | re.DOTALL)
_SHELLS: Final = frozenset({b"sh", b"dash", b"bash", b"ash", b"ksh", b"zsh", b"busybox"})
_FIRST: Final = b"#!/bin/sh\n"


def block(name: str) -> bytes:
    """The lines for the hook called *name*, for any POSIX shell, under ``-e`` and ``-u`` too."""
    return (
        b"%b\n"
        b"# Keeps the records of .taskstore/ and git in step; tstore uninstall-hooks takes these lines out.\n"
        b"if command -v tstore >/dev/null 2>&1; then\n"
        b'    tstore hook %b "$@" </dev/null || test $? -ne %d || exit 1\n'
        b"else\n"
        b"    echo 'tstore: it is not on the PATH, so %b left .taskstore/ as it is' >&2\n"
        b"fi\n"
        b"%b\n"
    ) % (_BEGIN, name.encode(), REFUSED, name.encode(), _END)


def line_for(name: str) -> str:
    """What a person adds by hand to a hook that is not ours to write to."""
    return f'tstore hook {name} "$@" </dev/null || test $? -ne {REFUSED} || exit 1'


def has(script: bytes) -> bool:
    """Whether *script* has such lines, of this version or another."""
    return _BLOCK.search(script) is not None


def is_current(script: bytes, name: str) -> bool:
    """Whether *script* has exactly the lines for the hook called *name*."""
    found = _BLOCK.findall(script)
    return found == [block(name)]


def is_call(script: bytes, name: str) -> bool:
    """Whether *script* runs ``tstore hook`` *name*, in our lines or in somebody's own."""
    called = re.compile(
        rb"^[^#\n]*\btstore(?:\.exe)?[\"']?\s+hook\s+" + re.escape(name.encode()) + rb"\b", re.MULTILINE
    )
    return called.search(script) is not None


def is_shell(script: bytes) -> bool:
    """Whether *script* is one that a POSIX shell runs. Without a first line ``#!`` git has ``sh`` run it."""
    if b"\0" in script:
        return False
    first = script.split(b"\n", 1)[0]
    if not first.startswith(b"#!"):
        return True
    words = [word.rpartition(b"/")[2] for word in first[2:].split()]
    return not first.endswith(b"\r") and not _SHELLS.isdisjoint(words)


def insert(script: bytes, name: str) -> bytes:
    """*script* with the lines for the hook called *name*, once. An empty one becomes a whole hook."""
    rest = remove(script) or _FIRST
    if not rest.startswith(b"#!"):
        return block(name) + rest
    first, newline, more = rest.partition(b"\n")
    return first + (newline or b"\n") + block(name) + more


def remove(script: bytes) -> bytes:
    """*script* without such lines; nothing when only the first line is left."""
    rest = _BLOCK.sub(b"", script)
    return b"" if rest != script and rest in {_FIRST, b""} else rest
