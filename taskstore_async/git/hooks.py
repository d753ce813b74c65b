"""The hooks directory: which hooks call this program, and putting our lines into those that are ours to change."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from taskstore_async.git import block

if TYPE_CHECKING:
    from taskstore_async.git.repository import Repository

__all__ = ["Hook", "HookState", "HooksDirectory", "replace"]

_MANAGERS: Final = ((b"pre-commit.com", "pre-commit"), (b"lefthook", "lefthook"), (b"overcommit", "overcommit"))


class HookState(StrEnum):
    """What is known of a hook."""

    INSTALLED = "installed"  #: it has our lines
    OUTDATED = "outdated"  #: it has them as another version wrote them
    CHAINED = "chained"  #: somebody's own lines call ``tstore hook``
    ABSENT = "absent"  #: nothing calls it


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """One hook of this clone.

    Attributes:
        name: Git's name.
        path: The file that git runs.
        state: What is known of it.
        hindrance: Why our lines cannot be put there, and what to add by hand; empty when they can.
        note: What else there is to say.
    """

    name: str
    path: str
    state: HookState
    hindrance: str = ""
    note: str = ""


class HooksDirectory:
    """Where git looks for hooks, which a person may have moved.

    Attributes:
        path: The effective directory.
        own: It is this clone's own, and not a directory that a person or a tool has set up (``core.hooksPath``).
    """

    def __init__(self, repository: Repository) -> None:
        self.path = repository.path("hooks")
        common = repository.top / repository.run("rev-parse", "--git-common-dir").text
        self.own = os.path.realpath(self.path) == os.path.realpath(common / "hooks")

    def look(self, name: str) -> Hook:
        """What is known of the hook called *name*."""
        path = self.path / name
        script = _read(path)
        state = HookState.ABSENT
        if script is not None and block.has(script):
            state = HookState.INSTALLED if block.is_current(script, name) else HookState.OUTDATED
        elif any(block.is_call(text, name) for text in _scripts(path)):
            state = HookState.CHAINED
        if state is not HookState.ABSENT and not os.access(path, os.X_OK):
            state = HookState.ABSENT  # git passes over it
        hindrance = self._hindrance(path, script) if state is not HookState.CHAINED else ""
        maker = next((maker for mark, maker in _MANAGERS if mark in (script or b"")), None)
        note = f"{maker} writes this file: after its install, run tstore install-hooks again" if maker else ""
        return Hook(name=name, path=str(path), state=state, hindrance=hindrance, note=note)

    def _hindrance(self, path: Path, script: bytes | None) -> str:
        """Why *path* is not ours to change; empty when it is."""
        line = f"add this line at its top: {block.line_for(path.name)}"
        if not self.own:
            home = path.parent.parent / path.name if path.parent.name == "_" else path  # husky's generated directory
            return f"core.hooksPath is {self.path}, which is not ours to write to; in {home}, {line}"
        if path.is_symlink():
            return f"it is a link to {path.readlink()}, which is not ours to write to; {line}"
        if script is None:
            return f"{path} is no file that can be read" if path.exists() else ""
        if not os.access(path, os.X_OK):
            return f"{path} is not executable, so git passes over it; make it so, or move it away"
        return "" if block.is_shell(script) else f"it is no shell script; have it run: {block.line_for(path.name)}"

    def write(self, hook: Hook) -> None:
        """Put our lines into *hook*, which has no hindrance."""
        path = Path(hook.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, block.insert(_read(path) or b"", hook.name))

    def clear(self, name: str, *, dry_run: bool = False) -> bool:
        """Take our lines out of the hook called *name*, and the file away when it held nothing else.

        Args:
            name: Git's name.
            dry_run: Only tell.

        Returns:
            Whether they were there.
        """
        path = self.path / name
        script = _read(path)
        if script is None or not block.has(script) or path.is_symlink():
            return False
        rest = block.remove(script)
        if dry_run:
            return True
        if rest:
            replace(path, rest)
        else:
            path.unlink()
        return True


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _scripts(path: Path) -> list[bytes]:
    """What git runs, and what husky's generated hook runs in turn: the person's file in the directory above."""
    found = [_read(path)]
    if path.parent.name == "_" and found != [None]:
        found.append(_read(path.parent.parent / path.name))
    return [script for script in found if script is not None]


def replace(path: Path, data: bytes) -> None:
    """Put *data* in the place of a file: whole or not at all, with the mode that it has."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - reason: a descriptor
            file.write(data)
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o7777)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise
