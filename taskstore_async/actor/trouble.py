"""What goes wrong in the background, where no caller learns of it."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskstore_async.errors import TaskStoreError

__all__ = ["Trouble"]

_logger = logging.getLogger(__name__)


class Trouble:
    """Tells of it, once for as long as it stays the same.

    Args:
        tell: Called with the error; None logs a warning.
    """

    def __init__(self, tell: Callable[[TaskStoreError], object] | None = None) -> None:
        self._tell = tell
        self._told: dict[str, tuple[type[TaskStoreError], object]] = {}

    def met(self, doing: str, error: TaskStoreError) -> None:
        """*doing* failed with *error*."""
        what = (type(error), getattr(error, "reason", str(error)))
        if self._told.get(doing) == what:
            return
        self._told[doing] = what
        if self._has_told(error):
            return
        extra = {"error_class": type(error).__name__}
        _logger.warning("%s failed, and is tried again: %s", doing, error, extra=extra)

    def _has_told(self, error: TaskStoreError) -> bool:
        """Tell, and whether that went well: what a caller's own function does must not end what goes on here."""
        if self._tell is None:
            return False
        try:
            said = self._tell(error)
            if isinstance(said, Coroutine):
                said.close()
                raise TypeError("it is awaited by nobody; give a plain function, which may start a task")  # noqa: TRY301 - reason: logged like any other
        except Exception:
            _logger.exception("on_trouble could not be called")
            return False
        return True

    def over(self, doing: str) -> None:
        """*doing* went well."""
        self._told.pop(doing, None)
