"""Which store a command is about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from taskstore_async.errors import NoStoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Place", "find_store"]


class Place(msgspec.Struct, frozen=True):
    """Where a store is, or is to be made.

    Attributes:
        path: The directory that holds ``.taskstore/``, or a store directory itself.
        why: What led there, for people.
    """

    path: str
    why: str


def find_store(
    option: str | None,
    *,
    environment: Mapping[str, str] = os.environ,
    here: Path | None = None,
    create: bool = False,
    upwards: bool = True,
) -> Place:
    """Find the store: ``--store`` beats ``TSTORE_DIR`` beats walking up from the working directory.

    Args:
        option: What ``--store`` says, if it does.
        environment: For ``TSTORE_DIR``; empty counts as not set.
        here: The working directory.
        create: When there is none above, it is to be made in the working directory.
        upwards: Walk up from the working directory at all.

    Raises:
        NoStoreError: There is none on the way up, and none is to be made.
    """
    from taskstore_async.storage.directory import Directory  # noqa: PLC0415 - reason: --help needs no storage

    if option:
        return Place(option, "given by --store")
    if named := environment.get("TSTORE_DIR"):
        return Place(named, "named by TSTORE_DIR")
    start = Path(os.path.abspath(here or Path.cwd()))  # noqa: PTH100 - reason: resolve() would follow links
    found = Directory.above(start) if upwards else None
    if found is not None:
        same = found.path in {start, start / found.path.name}
        return Place(str(found.path), "in the working directory" if same else f"found above {start}")
    if create:
        return Place(str(start), "to be made in the working directory")
    raise NoStoreError(f"{start} or above it")
