"""What every test may use: the loops, the shared data, and how hard Hypothesis looks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A deadline would measure the machine. "same" looks at the same examples every time, so that a red run is about the
# change; "new" looks at new ones; "thorough" is for an evening.
settings.register_profile("same", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("new", deadline=None, print_blob=True)
settings.register_profile(
    "thorough", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "same")

HAS_UVLOOP = sys.platform != "win32" and sys.implementation.name == "cpython"

LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    *([pytest.param(("asyncio", {"use_uvloop": True}), id="asyncio+uvloop")] if HAS_UVLOOP else []),
    pytest.param(("trio", {}), id="trio"),  # random task order: finds tests that assume one
]

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run a test marked ``anyio`` on every loop that a StateManager serves."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real journals (``*.jsonl.xz``) that stands beside a developer's checkout."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real journals (../shared/data) are not beside this checkout")
    return folder
