"""The page of guarantees names tests that exist, and every number once."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "guarantees.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py::[\w:]+)`", PAGE)))


def defined(path: str) -> set[str]:
    """The test classes, functions and methods of a file, as pytest names them."""
    found: set[str] = set()
    for node in ast.parse((REPOSITORY / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}::{one.name}" for one in methods}
    return found


@pytest.mark.parametrize("name", NAMED)
def test_it_names_a_test(name: str) -> None:
    path, _, test = name.partition("::")
    assert test.startswith(("Test", "test_"))
    assert test in defined(path)


def test_every_promise_has_a_number_and_a_test() -> None:
    numbers = [int(section.partition(".")[0]) for section in SECTIONS]
    assert numbers == list(range(1, len(SECTIONS) + 1))
    assert all("- `tests/" in section for section in SECTIONS)


def test_whatever_looks_like_a_test_is_one() -> None:
    assert set(re.findall(r"^- `([^`]+)`$", PAGE, flags=re.MULTILINE)) == set(NAMED)
