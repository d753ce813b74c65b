"""The lines in a hook: where they go, that they go again, and that the hook around them stays what it was."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore_async.git.block import HOOKS, REFUSED, has, insert, is_call, is_current, is_shell, line_for, remove

SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh", "busybox") if shutil.which(shell)]

scripts = st.lists(
    st.sampled_from([b"#!/bin/sh\n", b"set -e\n", b"exit 3\n", b"# >>> other >>>\n", b"\n", b"echo tstore\n", b"true"])
).map(b"".join)


class TestText:
    """Putting the lines in is idempotent, and taking them out gives back what was there, byte for byte."""

    @given(script=scripts, name=st.sampled_from(HOOKS))
    def test_in_and_out_again(self, script: bytes, name: str) -> None:
        once = insert(script, name)
        assert has(once)
        assert is_current(once, name)
        assert is_call(once, name)
        assert insert(once, name) == once
        assert remove(once) == (b"" if script == b"#!/bin/sh\n" else script)

    @given(script=scripts)
    def test_what_has_no_such_lines_stays_as_it_is(self, script: bytes) -> None:
        assert not has(script)
        assert remove(script) == script

    def test_lines_of_another_version_are_replaced(self) -> None:
        old = b"#!/bin/sh\n# >>> tstore >>>\ntstore old-words\n# <<< tstore <<<\nexit 3\n"
        assert has(old)
        assert not is_current(old, "pre-push")
        assert insert(old, "pre-push") == insert(b"#!/bin/sh\nexit 3\n", "pre-push")
        assert remove(old) == b"#!/bin/sh\nexit 3\n"

    def test_a_line_without_an_end_stays_without(self) -> None:
        assert remove(insert(b"#!/bin/sh\ntrue", "pre-push")) == b"#!/bin/sh\ntrue"

    @pytest.mark.parametrize(
        ("script", "called"),
        [
            (b"npx x\ntstore hook pre-push\n", True),
            (b'  "$HOME/bin/tstore" hook pre-push "$@"\n', True),
            (line_for("pre-push").encode(), True),
            (b"# tstore hook pre-push\n", False),
            (b"tstore hook pre-pushing\n", False),
            (b"mytstore hook pre-push\n", False),
            (b"tstore sync\n", False),
        ],
    )
    def test_a_call_by_hand_is_known(self, script: bytes, called: bool) -> None:  # noqa: FBT001 - reason: a table
        assert is_call(script, "pre-push") is called

    @pytest.mark.parametrize(
        ("script", "shell"),
        [
            (b"#!/bin/sh\n", True),
            (b"#! /usr/bin/env -S bash -e\n", True),
            (b"#!/usr/bin/env sh", True),
            (b"true\n", True),
            (b"#!/usr/bin/env python3\n", False),
            (b"#!/usr/bin/fish\n", False),
            (b"#!/bin/sh\r\n", False),
            (b"\x7fELF\0\0", False),
        ],
    )
    def test_only_what_a_shell_runs_is_a_shell_script(self, script: bytes, shell: bool) -> None:  # noqa: FBT001 - reason: a table
        assert is_shell(script) is shell


@pytest.mark.parametrize("shell", SHELLS)
class TestShell:
    """In every shell the hook's exit code stays its own, and only a refusal of ours stops git."""

    def run(self, tmp_path: Path, shell: str, ours: str, theirs: str, flags: str = "-eu") -> tuple[int, str, str]:
        """Run a hook with our lines in it, where ``tstore`` is the program *ours*."""
        tmp_path = tmp_path / "bin"
        tmp_path.mkdir()
        if ours:
            program = tmp_path / "tstore"
            program.write_text(f"#!/bin/sh\n{ours}\n")
            program.chmod(0o755)
        first = f"#!{shutil.which(shell)}{' sh' if shell == 'busybox' else ''} {flags}".rstrip().encode() + b"\n"
        hook = tmp_path / "hook"
        hook.write_bytes(insert(first + theirs.encode(), "pre-push"))
        command = [shell, *(["sh"] if shell == "busybox" else []), flags, str(hook), "one", "two words"]
        path = f"{tmp_path}:/usr/bin:/bin"
        done = subprocess.run(command, input="refs", capture_output=True, text=True, env={"PATH": path}, check=False)
        return done.returncode, done.stdout, done.stderr

    @pytest.mark.parametrize("theirs", [0, 1, 3])
    @pytest.mark.parametrize("ours", [0, 1, 2, 127])
    def test_the_hooks_own_exit_code_counts(self, tmp_path: Path, shell: str, ours: int, theirs: int) -> None:
        assert self.run(tmp_path, shell, f"exit {ours}", f"exit {theirs}\n") == (theirs, "", "")

    def test_a_refusal_stops_it(self, tmp_path: Path, shell: str) -> None:
        assert self.run(tmp_path, shell, f"exit {REFUSED}", "echo reached\n") == (1, "", "")

    def test_a_missing_program_is_one_line(self, tmp_path: Path, shell: str) -> None:
        code, out, err = self.run(tmp_path, shell, "", "echo reached\n")
        assert (code, out) == (0, "reached\n")
        assert err == "tstore: it is not on the PATH, so pre-push left .taskstore/ as it is\n"

    def test_it_gets_gits_words_and_leaves_the_input_to_the_hook(self, tmp_path: Path, shell: str) -> None:
        code, out, _ = self.run(tmp_path, shell, 'cat; echo "$#: $1, $2, $3, $4"', 'cat; exec sh -c "exit 4"\n')
        assert (code, out) == (4, "4: hook, pre-push, one, two words\nrefs")


def test_git_has_sh_run_a_hook_without_a_first_line(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    hook = tmp_path / ".git" / "hooks" / "pre-commit"
    hook.write_bytes(insert(b"exit 3\n", "pre-commit"))
    hook.chmod(0o755)
    command = ["git", "commit", "--quiet", "--allow-empty", "-m", "x"]
    environment = {**os.environ, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
