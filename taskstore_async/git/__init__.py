"""The git floor: the merge driver, hooks and attributes.

For programs, and never called by opening a store: `install`, `uninstall` and `status`, loaded when they are first used,
so that the merge driver starts without them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskstore_async.git.hooks import HookState
    from taskstore_async.git.installation import Action, GitStatus, Installation, Step, install, status, uninstall

__all__ = ["Action", "GitStatus", "HookState", "Installation", "Step", "install", "status", "uninstall"]

if not TYPE_CHECKING:  # else every misspelt name would be an object to a type checker

    def __getattr__(name: str) -> object:
        """Load a public name from its home, once."""
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        home = "hooks" if name == "HookState" else "installation"
        value = getattr(import_module(f"taskstore_async.git.{home}"), name)
        globals()[name] = value
        return value
