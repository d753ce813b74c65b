"""Setting git up and taking it back: exactly what was done is told, and nothing of anybody else's is touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import taskstore_async.git
from taskstore_async.errors import GitError, NoRepositoryError, NoStoreError
from taskstore_async.git import Action, GitStatus, HookState, Installation, Step, install, status, uninstall
from taskstore_async.git.attributes import COMMAND
from taskstore_async.git.block import HOOKS, insert
from taskstore_async.git.repository import LOCAL_VARIABLES
from tests.git.support import Clone

if TYPE_CHECKING:
    from collections.abc import Iterable

ALL_INSTALLED = dict.fromkeys(HOOKS, HookState.INSTALLED)


def actions(done: Installation, names: Iterable[str] = HOOKS) -> set[Action]:
    return {step.action for step in done.steps if step.what in names}


def step_of(done: Installation, what: str) -> Step:
    return next(step for step in done.steps if step.what == what)


@pytest.fixture
def bare(clone: Clone) -> Clone:
    """A repository with a store, and git not set up for it."""
    clone.git("config", "--remove-section", "merge.tstore")
    return clone


class TestInstall:
    """It says what it did, and done again it does nothing."""

    def test_the_first_time(self, bare: Clone) -> None:
        hooks = bare.top / ".git" / "hooks"
        assert install(bare.home) == Installation(
            store=str(bare.store),
            repository=str(bare.top),
            steps=(
                Step(what="attributes", action=Action.UNCHANGED, where=str(bare.store / ".gitattributes")),
                Step(what="merge driver", action=Action.MADE, where="merge.tstore.driver"),
                *(Step(what=name, action=Action.MADE, where=str(hooks / name)) for name in HOOKS),
            ),
        )
        assert status(bare.home) == GitStatus(
            store=str(bare.store),
            repository=str(bare.top),
            attribute="tstore",
            driver=COMMAND,
            hooks_path=str(hooks),
            hooks=ALL_INSTALLED,
            warnings=(),
        )

    def test_again_nothing_happens(self, hooked: Clone) -> None:
        before = {path: path.stat().st_mtime_ns for path in (hooked.top / ".git" / "hooks").iterdir()}
        again = install(hooked.home)
        assert {step.action for step in again.steps} == {Action.UNCHANGED}
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_a_dry_run_changes_nothing_and_says_the_same(self, bare: Clone) -> None:
        (bare.store / ".gitattributes").unlink()
        before = bare.git("config", "--list"), sorted((bare.top / ".git" / "hooks").iterdir())
        dry = install(bare.home, dry_run=True)
        assert (bare.git("config", "--list"), sorted((bare.top / ".git" / "hooks").iterdir())) == before
        assert not (bare.store / ".gitattributes").exists()
        assert dry == install(bare.home)
        assert step_of(dry, "attributes").action is Action.MADE

    def test_half_of_it_can_be_asked_for(self, bare: Clone) -> None:
        assert {step.what for step in install(bare.home, hooks=False).steps} == {"attributes", "merge driver"}
        assert {step.what for step in install(bare.home, driver=False).steps} == set(HOOKS)

    def test_what_the_attributes_say_already_stays(self, bare: Clone) -> None:
        file = bare.store / ".gitattributes"
        file.write_text("*.md text\n")
        assert step_of(install(bare.home), "attributes").action is Action.CHANGED
        assert file.read_text() == "*.md text\n*.jsonl -text merge=tstore\n"

    def test_attributes_that_override_ours_are_told(self, bare: Clone) -> None:
        (bare.top / ".git" / "info" / "attributes").write_text("*.jsonl merge=union\n")
        step = step_of(install(bare.home), "attributes")
        assert step.action is Action.MANUAL
        assert "merge=union" in step.note

    @pytest.mark.parametrize("command", ["taskstore-merge %O %A %B %P", "/opt/x/tstore merge-driver %O %A %B"])
    def test_a_driver_of_ours_by_another_name_stays(self, bare: Clone, command: str) -> None:
        bare.git("config", "merge.tstore.driver", command)
        step = step_of(install(bare.home), "merge driver")
        assert (step.action, step.note) == (Action.UNCHANGED, command)
        assert status(bare.home).driver == command

    def test_another_driver_of_that_name_is_replaced_and_told(self, bare: Clone) -> None:
        bare.git("config", "merge.tstore.driver", "true %A")
        step = step_of(install(bare.home), "merge driver")
        assert (step.action, step.note) == (Action.CHANGED, "it was: true %A")
        assert status(bare.home).driver == COMMAND

    def test_it_is_loaded_from_the_package_whatever_was_loaded_before(self) -> None:
        assert taskstore_async.git.install is install
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            getattr(taskstore_async.git, "nothing")  # noqa: B009 - reason: a name that type checkers refuse


class TestUninstall:
    """It takes out what was put in, and nothing else."""

    def test_everything_is_as_before(self, bare: Clone) -> None:
        hooks = bare.top / ".git" / "hooks"
        before = {path: path.read_bytes() for path in hooks.iterdir()}
        config = (bare.top / ".git" / "config").read_bytes()
        install(bare.home)
        done = uninstall(bare.home)
        assert {step.action for step in done.steps} == {Action.REMOVED}
        assert [step.what for step in done.steps] == [*HOOKS, "merge driver"]
        assert {path: path.read_bytes() for path in hooks.iterdir()} == before
        assert (bare.top / ".git" / "config").read_bytes() == config
        assert {step.action for step in uninstall(bare.home).steps} == {Action.ABSENT}

    def test_the_attributes_stay_for_the_other_clones(self, hooked: Clone) -> None:
        uninstall(hooked.home)
        assert "merge=tstore" in (hooked.store / ".gitattributes").read_text()

    def test_the_driver_may_stay(self, hooked: Clone) -> None:
        uninstall(hooked.home, driver=False)
        assert status(hooked.home).driver == COMMAND


class TestSomebodysHooks:
    """A hook that is there keeps its words, its mode and its exit code; one that is not ours to change is left."""

    @pytest.fixture
    def hook(self, bare: Clone) -> Path:
        path = bare.top / ".git" / "hooks" / "pre-commit"
        path.write_text("#!/bin/bash\necho mine\nexit 0\n")
        path.chmod(0o750)
        return path

    def test_ours_goes_in_and_out(self, bare: Clone, hook: Path) -> None:
        before = hook.read_bytes()
        assert step_of(install(bare.home), "pre-commit").action is Action.CHANGED
        assert hook.read_bytes() == insert(before, "pre-commit")
        assert hook.stat().st_mode & 0o777 == 0o750
        uninstall(bare.home)
        assert hook.read_bytes() == before
        assert hook.stat().st_mode & 0o777 == 0o750

    def test_another_versions_lines_are_brought_up_to_date(self, bare: Clone, hook: Path) -> None:
        hook.write_text("#!/bin/sh\n# >>> tstore >>>\nold\n# <<< tstore <<<\necho mine\n")
        assert status(bare.home).hooks["pre-commit"] is HookState.OUTDATED
        assert step_of(install(bare.home), "pre-commit").action is Action.CHANGED
        assert hook.read_bytes() == insert(b"#!/bin/sh\necho mine\n", "pre-commit")

    def test_a_call_by_hand_is_enough(self, bare: Clone, hook: Path) -> None:
        hook.write_text("#!/bin/sh\ntstore hook pre-commit\n")
        before = hook.read_bytes()
        assert status(bare.home).hooks["pre-commit"] is HookState.CHAINED
        assert step_of(install(bare.home), "pre-commit").action is Action.UNCHANGED
        step = step_of(uninstall(bare.home), "pre-commit")
        assert step.action is Action.MANUAL
        assert "by hand" in step.note
        assert hook.read_bytes() == before

    @pytest.mark.parametrize(
        ("script", "mode", "reason"),
        [
            (b"#!/usr/bin/env python3\n", 0o755, "no shell script"),
            (b"\x7fELF\0", 0o755, "no shell script"),
            (b"#!/bin/sh\n", 0o644, "not executable"),
        ],
    )
    def test_what_is_no_shell_script_or_is_switched_off_is_left(
        self, bare: Clone, hook: Path, script: bytes, mode: int, reason: str
    ) -> None:
        hook.write_bytes(script)
        hook.chmod(mode)
        step = step_of(install(bare.home), "pre-commit")
        assert step.action is Action.MANUAL
        assert reason in step.note
        assert (hook.read_bytes(), hook.stat().st_mode & 0o777) == (script, mode)
        assert status(bare.home).hooks["pre-commit"] is HookState.ABSENT

    def test_ours_in_a_hook_that_was_switched_off_does_not_count(self, bare: Clone, hook: Path) -> None:
        install(bare.home)
        hook.chmod(0o640)
        assert status(bare.home).hooks["pre-commit"] is HookState.ABSENT

    def test_a_link_is_not_written_through(self, bare: Clone, hook: Path) -> None:
        target = bare.top / "script.sh"
        hook.rename(target)
        hook.symlink_to(target)
        before = target.read_bytes()
        step = step_of(install(bare.home), "pre-commit")
        assert (step.action, hook.is_symlink(), target.read_bytes()) == (Action.MANUAL, True, before)
        assert "tstore hook pre-commit" in step.note

    @pytest.mark.parametrize("maker", ["# File generated by pre-commit: https://pre-commit.com", "call_lefthook run"])
    def test_a_file_that_a_tool_writes_gets_a_word_of_warning(self, bare: Clone, hook: Path, maker: str) -> None:
        hook.write_text(f"#!/bin/sh\n{maker}\n")
        for action in (Action.CHANGED, Action.UNCHANGED):
            step = step_of(install(bare.home), "pre-commit")
            assert step.action is action
            assert "run tstore install-hooks again" in step.note


class TestHooksPath:
    """Where a person or a tool has set up a directory of hooks, the lines to add are told, and nothing is written."""

    def test_a_directory_in_the_tree_is_left_alone(self, bare: Clone) -> None:
        folder = bare.top / ".githooks"
        folder.mkdir()
        bare.git("config", "core.hooksPath", ".githooks")
        done = install(bare.home)
        assert actions(done) == {Action.MANUAL}
        note = step_of(done, "pre-push").note
        assert f"in {folder / 'pre-push'}" in note
        assert list(folder.iterdir()) == []
        script = folder / "pre-push"
        script.write_text("#!/bin/sh\n" + note.rpartition("at its top: ")[2] + "\n")
        script.chmod(0o755)
        assert status(bare.home).hooks == {**dict.fromkeys(HOOKS, HookState.ABSENT), "pre-push": HookState.CHAINED}
        assert step_of(install(bare.home), "pre-push").action is Action.UNCHANGED

    def test_huskys_generated_directory(self, bare: Clone) -> None:
        generated = bare.top / ".husky" / "_"
        generated.mkdir(parents=True)
        (generated / "h").write_text(
            'n=$(basename "$0")\ns=$(dirname "$(dirname "$0")")/$n\n[ ! -f "$s" ] || sh -e "$s" "$@"\n'
        )
        for name in HOOKS:
            (generated / name).write_text('#!/usr/bin/env sh\n. "$(dirname "$0")/h"\n')
            (generated / name).chmod(0o755)
        bare.git("config", "core.hooksPath", ".husky/_")
        step = step_of(install(bare.home), "pre-commit")
        assert step.action is Action.MANUAL
        assert f"in {bare.top / '.husky' / 'pre-commit'}, add this line" in step.note
        (bare.top / ".husky" / "pre-commit").write_text(step.note.rpartition("at its top: ")[2] + "\n")
        assert status(bare.home).hooks["pre-commit"] is HookState.CHAINED
        bare.change("a", status="done")
        bare.git("add", ".husky/pre-commit")
        bare.git("commit", "--quiet", "-m", "by the hook")
        assert '"done"' in bare.git("show", "HEAD:.taskstore/issues.jsonl")

    def test_the_own_directory_by_another_path_is_the_own_one(self, bare: Clone) -> None:
        bare.git("config", "core.hooksPath", str(bare.top / ".git" / "hooks"))
        assert actions(install(bare.home)) == {Action.MADE}


class TestTrees:
    """A linked working tree uses its repository's hooks, a submodule its own."""

    def test_a_linked_working_tree(self, bare: Clone, tmp_path: Path) -> None:
        bare.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "tree"))
        assert actions(install(tmp_path / "tree")) == {Action.MADE}
        assert status(bare.home).hooks == ALL_INSTALLED
        assert status(bare.home).driver == COMMAND

    def test_a_submodule(self, bare: Clone, tmp_path: Path) -> None:
        outer = Clone.made(tmp_path / "outer", driver=False)
        outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(bare.top), "state")
        done = install(outer.top / "state")
        assert done.repository == str(outer.top / "state")
        assert Path(step_of(done, "pre-push").where) == outer.top / ".git" / "modules" / "state" / "hooks" / "pre-push"
        assert set(status(outer.home).hooks.values()) == {HookState.ABSENT}
        assert status(outer.home).driver is None

    def test_a_store_below_the_top(self, tmp_path: Path) -> None:
        clone = Clone.made(tmp_path / "clone", place="tools", driver=False)
        assert install(clone.home).repository == str(clone.top)
        assert status(clone.home).attribute == "tstore"


class TestWhere:
    """It is about the repository around the store, whatever the environment of a hook says."""

    def test_the_variables_that_git_sets_for_its_children_are_known(self, bare: Clone) -> None:
        assert set(bare.git("rev-parse", "--local-env-vars").split()) <= LOCAL_VARIABLES

    def test_a_hooks_environment_is_not_followed(
        self, bare: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = Clone.made(tmp_path / "other", driver=False)
        monkeypatch.setenv("GIT_DIR", str(other.top / ".git"))
        monkeypatch.setenv("GIT_WORK_TREE", str(other.top))
        monkeypatch.setenv("GIT_INDEX_FILE", str(other.top / ".git" / "index"))
        assert install(bare.home).repository == str(bare.top)
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            monkeypatch.delenv(name)
        assert (status(bare.home).driver, status(other.home).driver) == (COMMAND, None)
        assert set(status(other.home).hooks.values()) == {HookState.ABSENT}

    def test_without_a_store(self, tmp_path: Path) -> None:
        with pytest.raises(NoStoreError):
            install(tmp_path)

    def test_without_a_repository(self, tmp_path: Path) -> None:
        clone = Clone(tmp_path)
        clone.put("a")
        for call in (install, uninstall, status):
            with pytest.raises(NoRepositoryError, match="git init"):
                call(tmp_path)

    def test_without_a_working_tree(self, tmp_path: Path) -> None:
        Clone(tmp_path).git("init", "--quiet", "--bare")
        Clone(tmp_path).put("a")
        with pytest.raises(NoRepositoryError):
            status(tmp_path)

    def test_without_git(self, bare: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", os.devnull)
        with pytest.raises(GitError, match="git rev-parse failed"):
            status(bare.home)

    def test_a_repository_that_git_refuses_to_look_at_is_no_missing_one(self, bare: Clone) -> None:
        (bare.top / ".git" / "config").write_text("[core\n")
        with pytest.raises(GitError, match="bad config"):
            status(bare.home)


class TestWarning:
    """A clone whose attributes name the driver that its configuration lacks is told."""

    def test_status_says_it(self, bare: Clone) -> None:
        (warning,) = status(bare.home).warnings
        assert "tstore install-merge-driver" in warning
        install(bare.home, hooks=False)
        assert status(bare.home).warnings == ()

    def test_without_the_attributes_there_is_nothing_to_warn_of(self, bare: Clone) -> None:
        (bare.store / ".gitattributes").write_text("*.md text\n")
        assert (status(bare.home).attribute, status(bare.home).warnings) == (None, ())
