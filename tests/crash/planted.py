"""Planted bugs: each breaks one guarantee in the code, and names the test that must notice.

They are worse than the mutants of tests/mutants: each is a shortcut that somebody could take in good faith, and that
works until a process dies, a disk fails or a file is not what it seems.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["PLANTED", "PLANTED_ON_REAL_DISKS", "Planted"]


class Planted(NamedTuple):
    """One bug.

    Attributes:
        name: What is wrong, in a few words.
        module: The file, below the package.
        changes: What stands there, each exactly once, and what takes its place.
        test: What must fail then.
    """

    name: str
    module: str
    changes: tuple[tuple[str, str], ...]
    test: str


_POWER: Final = "tests/crash/test_power.py::TestPowerCut"
_FAILPOINT: Final = "tests/crash/test_kills.py::TestFailpoint::test_killed_there"
_HISTORIES: Final = "tests/processes/test_linearizability.py::TestHistories"

PLANTED: Final = (
    Planted(
        "acknowledged before COMMIT",
        "storage/index.py",
        (
            (
                '            self.db.execute("COMMIT")\n        except sqlite3.Error as error:\n',
                "            pass\n        except sqlite3.Error as error:\n",
            ),
            (
                "        if full is not self._full:\n",
                (
                    '        if self.db.in_transaction:\n            self.db.execute("COMMIT")\n'
                    "        if full is not self._full:\n"
                ),
            ),
        ),
        "tests/crash/test_failpoints.py::TestEnvironment::test_the_third_time",
    ),
    Planted(
        "COMMIT is not waited for at index",
        "storage/engine.py",
        (("        full = durability is Durability.INDEX or (", "        full = ("),),
        f"{_POWER}::test_anywhere",
    ),
    Planted(
        "outbox trimmed before the append",
        "storage/flush.py",
        (
            (
                "                appended = journal.append(path, descriptor, record, lines)\n",
                (
                    "                seqs = (self._index.next_seq - 1, collection.key)\n"
                    '                self._index.db.execute("UPDATE collection SET flushed = ? WHERE key = ?", seqs)\n'
                    "                appended = journal.append(path, descriptor, record, lines)\n"
                ),
            ),
        ),
        f"{_FAILPOINT}[before append]",
    ),
    Planted(
        "outbox trimmed before fsync",
        "storage/journal.py",
        (
            (
                "        files.fsync(descriptor)\n    except OSError as error:\n",
                "        pass\n    except OSError as error:\n",
            ),
        ),
        f"{_POWER}::test_anywhere",
    ),
    Planted(
        "no newline before an append to a torn file",
        "storage/journal.py",
        (('else b"\\n" if torn or not record.newline else b""', 'else b""'),),
        "tests/hostile/test_corpus.py::TestAppend::test_what_was_there_stays",
    ),
    Planted(
        "import over pending rows",
        "storage/state_writer.py",
        (
            (
                "            waiting = [entry for entry in pending.get(record_id, ()) if entry.seq not in settled]\n",
                "            waiting: list[Pending] = []\n",
            ),
        ),
        "tests/storage/test_engine_against_simulator.py",
    ),
    Planted(
        "two transactions for a batch",
        "storage/apply.py",
        (
            (
                "        with self._savepoint():\n            for start in range(0, len(ops), LOOKED_AHEAD):",
                "        if True:\n            for start in range(0, len(ops), LOOKED_AHEAD):",
            ),
            (
                "                    stored = self._hold(op)\n",
                (
                    "                    self._write_held()\n"
                    '                    self._db.execute("COMMIT")\n'
                    '                    self._db.execute("BEGIN IMMEDIATE")\n'
                    "                    stored = self._hold(op)\n"
                ),
            ),
        ),
        f"{_POWER}::test_anywhere",
    ),
    Planted(
        "relaxed commits are appended before they are on the disk",
        "storage/flush.py",
        (("                    self._index.make_durable()\n", "                    pass\n"),),
        f"{_POWER}::test_everywhere",
    ),
    Planted(
        "a line at the greatest stamp is appended before its commit is on the disk",
        "storage/engine.py",
        (("                if application.by_position:\n", "                if False:\n"),),
        f"{_POWER}::test_everywhere",
    ),
    Planted(
        "the directory of a new journal is not fsynced",
        "storage/flush.py",
        (("        if inode in self._durable:\n", "        if True:\n"),),
        f"{_POWER}::test_anywhere",
    ),
    Planted(
        "held append descriptor",
        "storage/journal.py",
        (
            (
                "    descriptor = _open(path, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0))\n",
                (
                    '    held = globals().setdefault("_held", {})\n'
                    "    if path not in held:\n"
                    "        held[path] = _open(path, os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0))\n"
                    "    descriptor = os.dup(held[path])\n"
                ),
            ),
        ),
        "tests/storage/test_sync.py::TestNextCommandSeesTheTruth",
    ),
    Planted(
        "a rewritten journal gets its name before it is on the disk",
        "storage/replacing.py",
        (
            (
                "        files.fsync(file.fileno())\n        return written, file.tell()\n",
                "        return written, file.tell()\n",
            ),
        ),
        f"{_POWER}::test_anywhere",
    ),
    Planted(
        "a failed fsync is passed over",
        "storage/journal.py",
        (
            (
                (
                    "        raise FsyncError(error.errno, error.strerror, str(path)) from error\n"
                    '    failpoints.reach("append fsynced")\n'
                ),
                '        del error\n    failpoints.reach("append fsynced")\n',
            ),
        ),
        "tests/storage/test_flush.py",
    ),
    Planted(
        "a damaged index goes with its outbox",
        "storage/build.py",
        (("in _salvage(directory.index).items():", "in dict[str, list[bytes]]().items():"),),
        "tests/faults/test_matrix.py::TestIndex::test_what_waited_is_saved_where_it_can_be_read",
    ),
    Planted(
        "an index that cannot be read just now is taken for damaged",
        "storage/build.py",
        (("        if is_trouble(error):\n            raise\n", "        del error\n"),),
        "tests/faults/test_matrix.py::TestSettingAside",
    ),
    Planted(
        "the write-ahead log of a lost index is played into the new one",
        "storage/build.py",
        (
            (
                '        Path(f"{directory.index}{suffix}").unlink(missing_ok=True)\n    for leftover',
                "        del suffix\n    for leftover",
            ),
        ),
        "tests/storage/test_build.py::TestMissing",
    ),
    Planted(
        "writing without store.lock",
        "storage/sessions.py",
        (
            (
                "        with connections.hold():\n            failpoints",
                "        with suppress():\n            failpoints",
            ),
        ),
        "tests/crash/test_kills.py::TestKill",
    ),
    Planted(
        "a journal is opened through a link",
        "storage/files.py",
        (("flags | CLOEXEC | NOFOLLOW | NONBLOCK", "flags | CLOEXEC | NONBLOCK"),),
        "tests/hostile/test_clone.py::TestLinks",
    ),
    Planted(
        "compaction drops what it cannot read",
        "storage/compact.py",
        (
            (
                "                    replacing.quarantine(engine.directory, name, quarantined)\n",
                "                    pass\n",
            ),
        ),
        "tests/hostile/test_corpus.py::TestCompaction",
    ),
    Planted(
        "a version is compared before the transaction",
        "storage/engine.py",
        (
            (
                "        def work() -> list[Answer]:\n",
                (
                    "        def current(op: Update) -> bool:\n"
                    "            found = self.reader.get(op.draft.collection, op.draft.id)\n"
                    '            crc32 = __import__("zlib").crc32\n'
                    "            return found is not None and crc32(found.raw) == op.draft.expected_crc\n\n"
                    "        ops = [Put(op.draft) if isinstance(op, Update) and current(op) else op for op in ops]\n\n"
                    "        def work() -> list[Answer]:\n"
                ),
            ),
        ),
        _HISTORIES,
    ),
    Planted(
        "a snapshot outlives its question",
        "storage/reader.py",
        (
            (
                "        found = self.ask(name, rows.get_line, record_id)\n",
                (
                    '        self.gets = getattr(self, "gets", 0) + 1\n'
                    "        if self.gets % 8 == 0 and self.db.in_transaction:\n"
                    '            self.db.execute("COMMIT")\n'
                    "        if not self.db.in_transaction:\n"
                    '            self.db.execute("BEGIN")\n'
                    "        found = self.ask(name, rows.get_line, record_id)\n"
                ),
            ),
        ),
        _HISTORIES,
    ),
)

#: What cuts on real file systems must notice too. That the directory of a new journal is not fsynced they cannot: on
#: ext4 and xfs the fsync of a new file brings its name along.
PLANTED_ON_REAL_DISKS: Final = tuple(
    bug._replace(test="tests/crash/test_real_power.py::TestRealPowerCut::test_nothing_acknowledged_is_lost")
    for bug in PLANTED
    if bug.name in {"COMMIT is not waited for at index", "outbox trimmed before fsync", "two transactions for a batch"}
)
