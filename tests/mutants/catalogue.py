"""The mutants: where, what stands there, what takes its place, and which tests must fail then."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["MUTANTS", "Mutant"]


class Mutant(NamedTuple):
    """One change.

    Attributes:
        name: What is broken, in a few words.
        module: The file, below the package.
        old: What stands there, exactly once.
        new: What takes its place.
        tests: What is run; at least one test must fail.
    """

    name: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]


_FOLD: Final = ("tests/core/test_fold.py",)
_STAMP: Final = ("tests/core/test_stamp.py",)
_NAMES: Final = ("tests/core/test_names.py",)
_CODEC: Final = ("tests/core/test_codec.py",)
_SYNC: Final = ("tests/storage/test_sync.py",)
_JOURNAL: Final = ("tests/storage/test_journal.py",)

MUTANTS: Final = (
    # -- fold
    Mutant("a tie goes to the earlier line", "core/fold.py", "return instant >= best", "return instant > best", _FOLD),
    Mutant("the lowest stamp wins", "core/fold.py", "return instant >= best", "return instant <= best", _FOLD),
    Mutant(
        "a line without a stamp forgets created_at",
        "core/fold.py",
        "return max(line.created or 0, above or 0)",
        "return above or 0",
        _FOLD,
    ),
    Mutant(
        "a line without a stamp forgets the lines above",
        "core/fold.py",
        "return max(line.created or 0, above or 0)",
        "return line.created or 0",
        _FOLD,
    ),
    Mutant(
        "every line takes the stamp from above",
        "core/fold.py",
        "    if instant is not None:\n        return instant\n",
        "",
        _FOLD,
    ),
    # -- stamps
    Mutant("a boolean is a stamp", "core/stamp.py", " and not isinstance(value, bool)", "", _STAMP),
    Mutant("2^53 is a stamp", "core/stamp.py", "<= MAX_STAMP_MS and", "<= MAX_STAMP_MS + 1 and", _STAMP),
    Mutant("a negative integer is a stamp", "core/stamp.py", "if 0 <= value <=", "if -1 <= value <=", _STAMP),
    Mutant(
        "two writes in a millisecond tie", "core/stamp.py", "current // NS_PER_MS + 1)", "current // NS_PER_MS)", _STAMP
    ),
    Mutant("a stamp grows past 2^53-1", "core/stamp.py", "return min(wanted, MAX_STAMP_MS)", "return wanted", _STAMP),
    Mutant("a clock set back wins", "core/stamp.py", "max(clock_ms, current // NS_PER_MS + 1)", "clock_ms", _STAMP),
    Mutant("an offset counts the wrong way", "core/stamp.py", 'if sign == "-" else', 'if sign == "+" else', _STAMP),
    Mutant("nanoseconds are cut to microseconds", "core/stamp.py", "fraction[:9]", "fraction[:6]", _STAMP),
    Mutant(
        "any minute has a leap second", "core/stamp.py", 'if second == "60" and at_s % _DAY_S:', "if False:", _STAMP
    ),
    # -- names
    Mutant("a collection may be called store", "core/names.py", '_DEVICES | {"store", "merges"}', "_DEVICES", _NAMES),
    Mutant("a collection may be called aux", "core/names.py", '"con", "prn", "aux", "nul"', '"con"', _NAMES),
    Mutant(
        "a collection name has 65 characters",
        "core/names.py",
        're.compile(r"[a-z][a-z0-9_-]{0,63}")',
        're.compile(r"[a-z][a-z0-9_-]{0,64}")',
        _NAMES,
    ),
    Mutant(
        "an id has 257 characters", "core/names.py", "MAX_ID_CHARS: Final = 256", "MAX_ID_CHARS: Final = 257", _NAMES
    ),
    Mutant("an id has a C1 control", "core/names.py", "\\x7f-\\x9f", "\\x7f", _NAMES),
    Mutant("a blank id passes", "core/names.py", "if not text.strip():", "if not text:", _NAMES),
    # -- codec
    Mutant(
        "a long number is rounded",
        "core/codec.py",
        "return number if Decimal(repr(number)) == exact else exact",
        "return number",
        _CODEC,
    ),
    Mutant(
        "1.0 is another value than 1",
        "core/codec.py",
        "return _decimal(one) == _decimal(other)",
        "return False",
        _CODEC,
    ),
    Mutant(
        "true is the same value as 1",
        "core/codec.py",
        "isinstance(one, bool) or isinstance(other, bool)",
        "False",
        _CODEC,
    ),
    Mutant(
        "objects are equal by their keys",
        "core/codec.py",
        "pairs.extend([(one[key], item) for key, item in other.items()])",
        "pass",
        _CODEC,
    ),
    Mutant("invalid UTF-8 is served", "core/codec.py", "if not raw.isascii():", "if False:", _CODEC),
    Mutant("what is truthy deletes", "core/codec.py", "values[3] is True", "bool(values[3])", _CODEC),
    Mutant(
        "a boolean is an id", "core/codec.py", "if type(record_id) is int:", "if isinstance(record_id, int):", _CODEC
    ),
    Mutant(
        "any depth is written",
        "core/codec.py",
        "(depth := _nesting(line)) > MAX_NESTING",
        "(depth := 0) > MAX_NESTING",
        _CODEC,
    ),
    Mutant(
        "a carriage return is part of the line",
        "core/codec.py",
        'raw.rstrip(b"\\r") if returns else raw',
        "raw",
        _CODEC,
    ),
    Mutant(
        "the base of a conflict is read",
        "core/codec.py",
        "self._in_base = self._in_block and marker",
        "self._in_base = False and marker",
        _CODEC,
    ),
    Mutant(
        "a torn line is dropped",
        "core/codec.py",
        "        return [kept]\n",
        "        return [] if isinstance(kept, BadLine) else [kept]\n",
        _CODEC,
    ),
    Mutant("a line ends at the chunk", "core/codec.py", "self._held = [chunk[end + 1 :]]", "self._held = []", _CODEC),
    Mutant("NaN is written as null", "core/codec.py", "    if not _same(obj, back):", "    if False:", _CODEC),
    # -- sync
    Mutant(
        "the prefix is not compared",
        "storage/journal.py",
        "crc_of_prefix(descriptor, record.offset) != record.crc",
        "False",
        _SYNC,
    ),
    Mutant(
        "any stat is fresh at once", "storage/journal.py", "SETTLE_NS = 20_000_000", "SETTLE_NS = -(10**30)", _JOURNAL
    ),
    Mutant(
        "a line is glued to a torn one",
        "storage/journal.py",
        'else b"\\n" if torn or not record.newline',
        'else b"" if torn or not record.newline',
        _JOURNAL,
    ),
    Mutant(
        "a line in a replaced file counts",
        "storage/journal.py",
        "if not alone or named is None or (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino):",
        "if not alone or named is None:",
        _JOURNAL,
    ),
    Mutant(
        "an append extends a prefix with another CRC",
        "storage/journal.py",
        "zlib.crc32(data, zlib.crc32(torn, record.crc))",
        "record.crc",
        _SYNC,
    ),
    Mutant("a line behind a torn one is not missed", "storage/index.py", "rescan=True", "rescan=False", _SYNC),
    Mutant(
        "a pending line is lost to an import",
        "storage/reconcile.py",
        "log.keep_line(self._db, entry)",
        "pass",
        _JOURNAL,
    ),
    Mutant(
        "rows without a line stay", "storage/reconcile.py", "            gone = [", "            gone = [] and [", _SYNC
    ),
)
