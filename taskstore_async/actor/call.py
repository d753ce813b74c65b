"""One change on its way through the writer, and its answer on the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from anyio import Event

    from taskstore_async.core.schedule import Durability
    from taskstore_async.errors import TaskStoreError
    from taskstore_async.storage.ops import Op

__all__ = ["Call", "twin"]

E = TypeVar("E", bound=Exception)


class Call:
    """An op that waits for its answer.

    Args:
        op: What is to be changed.
        durability: What acknowledged means.
        answered: Set when there is an answer. Calls that are going to share a transaction share it: an event of its own
            for each would cost as much as the rest of its way.

    Attributes:
        withdrawn: The caller has gone before the op was in a transaction: it must not be applied.
    """

    __slots__ = ("_error", "_has_answer", "_value", "answered", "durability", "op", "withdrawn")

    def __init__(self, op: Op, durability: Durability, answered: Event) -> None:
        self.op = op
        self.durability = durability
        self.withdrawn = False
        self.answered = answered
        self._has_answer = False
        self._value: object = None
        self._error: TaskStoreError | None = None

    def apply(self, value: object) -> None:
        """Answer that the op was applied. Whoever waits learns of it when `answered` is set."""
        self._value = value
        self._has_answer = True

    def refuse(self, error: TaskStoreError) -> None:
        """Answer that it was not, or perhaps not. Whoever waits learns of it when `answered` is set."""
        self._error = error
        self._has_answer = True

    async def answer(self) -> object:
        """Wait for the answer; only one may.

        Raises:
            TaskStoreError: The op was refused, or its outcome is not known.
        """
        await self.answered.wait()
        while not self._has_answer:  # only others had theirs: this one was left for a later transaction
            self.answered = type(self.answered)()
            await self.answered.wait()
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # else its traceback holds this frame, and this frame it


def twin(error: E) -> E:
    """The same error once more, for one of several callers: a traceback grows wherever its error is raised."""
    made = type(error).__new__(type(error), *error.args)
    made.__dict__.update(error.__dict__)
    made.__cause__ = error.__cause__
    return made.with_traceback(error.__traceback__)
