"""Packs: modules of record types that are useful on the first day, and examples of how to write one's own."""

from __future__ import annotations

from typing import Final

__all__ = ["PACKS"]

PACKS: Final = tuple(f"{__name__}.{pack}" for pack in ("tasks", "loops", "runs"))
"""The modules; importing one loads its record types."""
