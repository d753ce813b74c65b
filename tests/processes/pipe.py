"""How a child process and its test talk: a line of JSON each way."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def say(**fields: object) -> None:
    """Tell the test something, in one write: a pipe takes all of a short one or nothing, also from a killed process."""
    os.write(1, json.dumps(fields).encode() + b"\n")


def heard() -> dict[str, Any]:
    """Wait for what the test tells; when it tells nothing more, that is to stop."""
    line = sys.stdin.readline()
    order: dict[str, Any] = json.loads(line) if line else {"do": "stop"}
    return order
