"""A transaction outside the path of a write, and what becomes of its errors."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from taskstore_async.errors import WriteFailedError, WriteUncertainError
from taskstore_async.storage.health import is_damage, is_full
from taskstore_async.storage.index import CommitError

if TYPE_CHECKING:
    from collections.abc import Generator

    from taskstore_async.storage.engine import Engine
    from taskstore_async.storage.sessions import Session

__all__ = ["rehearsal", "transaction"]


@contextmanager
def transaction(engine: Engine, session: Session, *, full: bool) -> Generator[None]:
    """One transaction of *session*; see `Index.transaction`.

    Raises:
        WriteUncertainError: COMMIT failed; nobody writes until the engine has compared what is there.
        WriteFailedError: SQLite refused something; nothing was changed.
        sqlite3.DatabaseError: The index is damaged; see `Engine.mending`.
    """
    try:
        with session.index.transaction(full=full):
            yield
    except CommitError as error:
        engine.break_off(f"a failed COMMIT ({error})", full=is_full(error))
        raise WriteUncertainError(f"COMMIT failed: {error}") from error
    except sqlite3.Error as error:
        if is_damage(error):
            raise
        raise WriteFailedError(str(engine.directory.index), str(error)) from error


class _Rehearsed(Exception):  # noqa: N818 - reason: it is no error
    """Leaves a transaction, which takes it back."""


@contextmanager
def rehearsal(engine: Engine, session: Session) -> Generator[None]:
    """One transaction that is taken back at the end of the block, to see what it would do.

    Raises:
        WriteFailedError, sqlite3.DatabaseError: As for `transaction`.
    """
    try:
        with transaction(engine, session, full=False):
            yield
            raise _Rehearsed  # noqa: TRY301 - reason: to leave the transaction
    except _Rehearsed:
        pass
