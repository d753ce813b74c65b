"""What goes wrong in the background, where no caller learns of it."""

from __future__ import annotations

import logging
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
        if self._tell is not None:
            self._tell(error)
            return
        extra = {"error_class": type(error).__name__}
        _logger.warning("%s failed, and is tried again: %s", doing, error, extra=extra)

    def over(self, doing: str) -> None:
        """*doing* went well."""
        self._told.pop(doing, None)
