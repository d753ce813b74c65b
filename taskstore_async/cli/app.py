"""The whole program: every family of commands."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from taskstore_async.cli.families import MODULES
from taskstore_async.cli.invocation import app, offer, registered

__all__ = ["FAMILIES", "app"]

import_module("taskstore_async.cli.running")  # what stands before a command's name
FAMILIES: Final = tuple(import_module(f"taskstore_async.cli.{name}") for name in MODULES)
"""The modules of commands; importing them adds what they have to the program."""
offer(registered)
