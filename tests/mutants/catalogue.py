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
_MERGE: Final = ("tests/core/test_merge.py",)
_CONFLICTS: Final = ("tests/core/test_conflicts.py",)
_GIT: Final = ("tests/storage/test_git.py",)
_SYNC: Final = ("tests/storage/test_sync.py",)
_JOURNAL: Final = ("tests/storage/test_journal.py",)
_FLUSH: Final = ("tests/storage/test_flush.py",)

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
    Mutant("invalid UTF-8 is served", "core/line.py", "if not raw.isascii():", "if False:", _CODEC),
    Mutant("what is truthy deletes", "core/line.py", "values[3] is True, chosen", "bool(values[3]), chosen", _CODEC),
    Mutant(
        "what is truthy deletes, among many",
        "core/line_reader.py",
        "[one is True for one in deleted]",
        "[bool(one) for one in deleted]",
        _CODEC,
    ),
    Mutant(
        "a boolean is an id", "core/line.py", "if type(record_id) is int:", "if isinstance(record_id, int):", _CODEC
    ),
    Mutant(
        "any depth is written",
        "core/codec.py",
        "(depth := nesting(line)) > MAX_NESTING",
        "(depth := 0) > MAX_NESTING",
        _CODEC,
    ),
    Mutant(
        "a carriage return is part of the line",
        "core/line_reader.py",
        'self._read(raw.rstrip(b"\\r"), self.number, offset)',
        "self._read(raw, self.number, offset)",
        _CODEC,
    ),
    Mutant(
        "the base of a conflict is read",
        "core/line_reader.py",
        "self._in_base = self._in_block and marker",
        "self._in_base = False and marker",
        _CODEC,
    ),
    Mutant(
        "a torn line is dropped",
        "core/line_reader.py",
        "        return [kept]\n",
        "        return [] if isinstance(kept, BadLine) else [kept]\n",
        _CODEC,
    ),
    Mutant(
        "a line ends at the chunk", "core/line_reader.py", "self._held = [chunk[end + 1 :]]", "self._held = []", _CODEC
    ),
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
        "a copied mtime is believed at once",
        "storage/journal.py",
        "max(record.mtime_ns, record.ctime_ns)",
        "record.mtime_ns",
        _JOURNAL,
    ),
    Mutant(
        "a file that is gone takes no unread line of ours along",
        "storage/journal.py",
        "    if status is None:\n        return record.size == 0 and not record.rescan",
        "    if status is None:\n        return record.size == 0",
        _JOURNAL,
    ),
    Mutant(
        "no mark is left in a lost index",
        "storage/sessions.py",
        "self._settle_marks(session)  # another handle",
        "pass  # another handle",
        _FLUSH,
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
        "storage/state_writer.py",
        "log.keep_line(self._db, entry)",
        "pass",
        _JOURNAL,
    ),
    Mutant(
        "rows without a line stay",
        "storage/state_writer.py",
        "            while at > 0:",
        "            while False:",
        _SYNC,
    ),
    # -- merge: reading
    Mutant("equal files are parsed", "core/merge.py", "if theirs in (ours, base):", "if False:", _MERGE),
    Mutant("a carriage return is kept by a merge", "core/merge_read.py", 'or b"\\r" in data:', "or False:", _MERGE),
    Mutant(
        "a marker is data to a merge", "core/merge_read.py", 'frozenset({"conflict marker", ', "frozenset({", _MERGE
    ),
    Mutant(
        "a marker that is left of a nested block is data to a merge",
        "core/merge_read.py",
        "or (marked and line.raw == _BETWEEN)",
        "",
        _MERGE,
    ),
    Mutant(
        "a merge reads the base of a conflict",
        "core/merge_read.py",
        ', "it is in the base part of a conflict, which is not read"})',
        "})",
        _MERGE,
    ),
    Mutant(
        "bad lines are ours alone",
        "core/merge_file.py",
        "merge_count(*reading.bad[raw])",
        "reading.bad[raw][1]",
        _MERGE,
    ),
    Mutant(
        "a torn side deletes",
        "core/merge_read.py",
        "if ours and {line.raw for line",
        "if False and {line.raw for line",
        _MERGE,
    ),
    Mutant(
        "a torn side cannot go back to a line",
        "core/merge_read.py",
        "if ours and {line.raw for line in versions.ours} < old:",
        "if ours and {line.raw for line in versions.ours} <= old:",
        _MERGE,
    ),
    Mutant(
        "a pointer deletes everything",
        "core/merge_read.py",
        "if found and not any(record_id is not None for record_id in found):",
        "if False:",
        _MERGE,
    ),
    # -- merge: state
    Mutant(
        "ours alone is not verbatim",
        "core/merge_state.py",
        '        return Outcome(_lines(ours), changed_by="ours")\n    if ours is not None',
        '        return Outcome((), changed_by="ours")\n    if ours is not None',
        _MERGE,
    ),
    Mutant(
        "a reformatted line counts as changed",
        "core/merge_state.py",
        "if base is not None and same_value(base.line.raw, ours.line.raw):",
        "if False:",
        _MERGE,
    ),
    Mutant("one-sided fields are lost", "core/merge_values.py", "if _same(base, ours):", "if False:", _MERGE),
    Mutant(
        "objects are taken whole",
        "core/merge_values.py",
        'if _is(ours, b"{") and _is(theirs, b"{")',
        "if False",
        _MERGE,
    ),
    Mutant("lists are taken whole", "core/merge_values.py", 'if _is(ours or b"[]", b"[") and', "if False and", _MERGE),
    Mutant(
        "an absent list is no list",
        "core/merge_values.py",
        'if _is(ours or b"[]", b"[") and _is(theirs or b"[]", b"[")',
        'if _is(ours, b"[") and _is(theirs, b"[")',
        _MERGE,
    ),
    Mutant(
        "elements have no id",
        "core/merge_values.py",
        "return str(_IDENTIFIED.decode(item).id)",
        "return None",
        _MERGE,
    ),
    Mutant(
        "equal elements count once",
        "core/merge_values.py",
        "        seen[what] += 1\n",
        "",
        _MERGE,
    ),
    Mutant(
        "an element that one side removed is back",
        "core/merge_values.py",
        "return None if base is not None and _same(base, there) else there",
        "return there",
        _MERGE,
    ),
    Mutant(
        "an element that one side modified is removed",
        "core/merge_values.py",
        "return None if base is not None and _same(base, there) else there",
        "return None if base is not None else there",
        _MERGE,
    ),
    Mutant(
        "an equal element that one side removed is back",
        "core/merge_values.py",
        "    if theirs == base:\n        return ours\n    return min",
        "    if theirs == base:\n        return max(ours, theirs)\n    return min",
        _MERGE,
    ),
    Mutant(
        "what is added to a list comes last",
        "core/merge_values.py",
        "            last = slot\n",
        "            pass\n",
        _MERGE,
    ),
    Mutant("ours wins a field", "core/merge_values.py", '"newer", values[self._newer]', '"newer", values[0]', _MERGE),
    Mutant(
        "numbers are rounded by a merge",
        "core/merge_values.py",
        "{name: bytes(value) for",
        "{name: msgspec.json.encode(msgspec.json.decode(value)) for",
        _MERGE,
    ),
    Mutant(
        "deleted and untouched lives",
        "core/merge_state.py",
        "if base is not None and not base.line.deleted and same_value(base.line.raw, living.line.raw):",
        "if False:",
        _MERGE,
    ),
    Mutant(
        "deleted and modified is deleted",
        "core/merge_state.py",
        "    line = living.line.raw\n",
        "    return Outcome(_lines(tombstones[0] if tombstones else None))\n    line = living.line.raw\n",
        _MERGE,
    ),
    Mutant(
        "a later tombstone beats the modification",
        "core/merge_state.py",
        "if tombstones and tombstones[0].instant > living.instant:",
        "if False:",
        _MERGE,
    ),
    Mutant(
        "nobody is told that a modification lives",
        "core/merge_state.py",
        'Outcome((line,), Decision(record_id, Rule.MODIFIED_LIVES, note=f"modified by {who}"))',
        "Outcome((line,))",
        _MERGE,
    ),
    Mutant(
        "a purged tombstone is back",
        "core/merge_state.py",
        "    if others == old:\n",
        "    if others == old and ours is not None:\n",
        _MERGE,
    ),
    Mutant("a side has no past", "core/merge_state.py", "if theirs_is_past != ours_is_past:", "if False:", _MERGE),
    Mutant(
        "what both sides went through is past",
        "core/merge_state.py",
        "if theirs_is_past != ours_is_past:",
        "if theirs_is_past or ours_is_past:",
        _MERGE,
    ),
    Mutant(
        "a line of the base is past",
        "core/merge_state.py",
        "if raw == now.line.raw or any(line.raw == raw for line in old):",
        "if raw == now.line.raw:",
        _MERGE,
    ),
    Mutant("a revert is past", "core/merge_state.py", "return max(ranks) > max(of_base)", "return True", _MERGE),
    Mutant(
        "without the base's line nothing is past",
        "core/merge_state.py",
        "return stamp is None or stamp >= base.instant",
        "return stamp is None",
        _MERGE,
    ),
    Mutant(
        "without a stamp nothing is past",
        "core/merge_state.py",
        "return stamp is None or stamp >= base.instant",
        "return stamp is not None and stamp >= base.instant",
        _MERGE,
    ),
    Mutant("the newest side gets a new stamp", "core/merge_state.py", "if None not in known:", "if False:", _MERGE),
    Mutant(
        "a merged version is as old as ours",
        "core/merge_state.py",
        "stamp_above(max(ours.instant, theirs.instant), ",
        "stamp_above(ours.instant, ",
        _MERGE,
    ),
    Mutant(
        "a merged stamp has our form",
        "core/merge_state.py",
        "stamp_of(sides[newer].line.raw))",
        "stamp_of(sides[0].line.raw))",
        _MERGE,
    ),
    Mutant("a merged stamp loses its zone", "core/merge_stamp.py", "{zone or ''}", "Z", _MERGE),
    Mutant("a tie is no conflict", "core/merge_values.py", "        self.contested.append(path)\n", "", _MERGE),
    Mutant(
        "the later created_at wins",
        "core/merge_values.py",
        "if _age(ours) < _age(theirs)",
        "if _age(ours) > _age(theirs)",
        _MERGE,
    ),
    Mutant("two digests are a conflict", "core/merge_values.py", "if _DIGEST.fullmatch(name):", "if False:", _MERGE),
    Mutant(
        "a conflict has one side's other fields",
        "core/merge_state.py",
        "[fields, merged(1 - newer)[1]]",
        "[fields, dict(contents[1 - newer])]",
        _MERGE,
    ),
    Mutant(
        "a conflict is in our order",
        "core/merge_state.py",
        "Outcome(tuple(sorted(lines)),",
        "Outcome(tuple(lines),",
        _MERGE,
    ),
    # -- merge: two records under one id
    Mutant(
        "two records become one", "core/merge_renames.py", "        if younger is None:\n", "        if True:\n", _MERGE
    ),
    Mutant(
        "half of the content is too little",
        "core/merge_renames.py",
        "return 2 * agreed >= sum(sizes)",
        "return False",
        _MERGE,
    ),
    Mutant("a record is two for its two sides", "core/merge_renames.py", "or mine == others or", "or", _MERGE),
    Mutant(
        "the younger keeps the id",
        "core/merge_renames.py",
        "if _age(ours.line, mine) < _age(theirs.line, others):",
        "if _age(ours.line, mine) > _age(theirs.line, others):",
        _MERGE,
    ),
    Mutant(
        "the new id comes from the content",
        "core/merge_renames.py",
        "msgspec.json.encode([record_id, _created(line)])",
        "line.raw",
        _MERGE,
    ),
    Mutant(
        "a renamed record is not known again",
        "core/merge_renames.py",
        "    _recognise(records, renames)\n",
        "",
        _MERGE,
    ),
    Mutant("references stay behind", "core/merge_renames.py", 'name.endswith(("_id", "_ids"))', "False", _MERGE),
    Mutant("declared references stay behind", "core/merge_renames.py", "or name in names)", "or False)", _MERGE),
    Mutant(
        "lines of the base are rewritten",
        "core/merge_renames.py",
        "            if raw not in old:\n                changed",
        "            if True:\n                changed",
        _MERGE,
    ),
    Mutant(
        "references of both sides are rewritten",
        "core/merge_renames.py",
        "            if counterpart is None or _rewritten",
        "            if True or _rewritten",
        _MERGE,
    ),
    Mutant(
        "the past of a side is another record",
        "core/merge_renames.py",
        "        return None  # one side went through the other's record: that is its past, no other record\n",
        "        pass\n",
        _MERGE,
    ),
    # -- merge: lines
    Mutant(
        "history goes",
        "core/merge_history.py",
        "for line in versions.base if line.raw in ours and line.raw in theirs and",
        "for line in versions.base if False and",
        _MERGE,
    ),
    Mutant(
        "what one side compacted away is back",
        "core/merge_history.py",
        "if line.raw in ours and line.raw in theirs and line.raw",
        "if (line.raw in ours or line.raw in theirs) and line.raw",
        _MERGE,
    ),
    Mutant(
        "one line becomes a history",
        "core/merge_history.py",
        "if len(versions.ours) <= 1 and len(versions.theirs) <= 1:",
        "if False:",
        _MERGE,
    ),
    Mutant(
        "the last line of a history moves to the end",
        "core/merge_history.py",
        "    if not history.kept and not history.added:\n",
        "    if False:\n",
        _MERGE,
    ),
    Mutant(
        "the result is no last among equals",
        "core/merge_history.py",
        "    return sorted([*_new(record_id, history.added), last])\n",
        "    return [last, *_new(record_id, history.added)]\n",
        _MERGE,
    ),
    Mutant(
        "the history beats the result",
        "core/merge_history.py",
        "    if layout is not None:\n        return layout\n",
        "    return layout or _alone(record_id, versions, _line_of(result))\n",
        _MERGE,
    ),
    Mutant(
        "a result loses the instant that lines above gave it",
        "core/merge_history.py",
        " and winner.instant >= counted",
        "",
        _MERGE,
    ),
    Mutant(
        "dropping a line changes the record below it",
        "core/merge_history.py",
        "return min(found, default=_own(result))",
        "return max(found, default=_own(result))",
        _MERGE,
    ),
    Mutant(
        "a raised result is a line of the base",
        "core/merge_history.py",
        "if any(same_value(line.raw, raw) for line in versions.base for raw in raised):",
        "if False:",
        _MERGE,
    ),
    Mutant(
        "new lines stand by side",
        "core/merge_file.py",
        "    new = sorted(line for layout in layouts.values() for line in layout.new)\n",
        "    new = [line for layout in layouts.values() for line in layout.new]\n",
        _MERGE,
    ),
    Mutant(
        "a sorted file loses its order",
        "core/merge_file.py",
        '        new.sort(key=attrgetter("id"))',
        "        pass",
        _MERGE,
    ),
    Mutant(
        "a sorted file with insertions loses its order",
        "core/merge_file.py",
        "            lines.sort(key=itemgetter(0))\n",
        "            pass\n",
        _MERGE,
    ),
    # -- conflicts that stand between markers, and SQL
    Mutant(
        "markers go although one of them is astray",
        "core/conflicts.py",
        "    if markers.stray:\n        return data, []\n",
        "",
        _CONFLICTS,
    ),
    Mutant(
        "markers go although something is contested between them",
        "core/conflicts.py",
        "if all(contest.id in chosen for contest in block.contests):",
        "if True:",
        _CONFLICTS,
    ),
    Mutant(
        "the base part of a conflict comes back to life",
        "core/conflicts.py",
        "sides = [*block.upper, *block.lower]",
        "sides = [number for number in range(block.first + 1, block.last) if number not in {block.base, block.middle}]",
        _CONFLICTS,
    ),
    Mutant(
        "a query reads the tables of the index",
        "storage/ask.py",
        "return sqlite3.SQLITE_OK if shown else sqlite3.SQLITE_DENY",
        "return sqlite3.SQLITE_OK",
        ("tests/storage/test_ask.py",),
    ),
    # -- what git overwrote unseen
    Mutant(
        "what git overwrote unseen is removed",
        "storage/reconcile.py",
        "            self._let_unseen_wait(collection, os.fstat(descriptor))",
        "            pass",
        _GIT,
    ),
    Mutant("a checkout overlooks everything", "storage/git.py", 'what.startswith("checkout:")', "False", _GIT),
    Mutant(
        "what came while git held its index was seen",
        "storage/unseen.py",
        "(spell.busy or not while_busy)",
        "not while_busy",
        _GIT,
    ),
    Mutant(
        "what another handle settled is not taken back",
        "storage/reconcile.py",
        "            log.unsettle(self._db, collection, above=flushed)\n",
        "",
        _GIT,
    ),
    Mutant(
        "an append is forgotten when a foreign line comes",
        "storage/reconcile.py",
        "            return tail.unseen\n",
        "            return ()\n",
        _GIT,
    ),
    Mutant(
        "a closed handle's appends are never forgotten",
        "storage/engine.py",
        "if not self.directory.git.may_be_merging():",
        "if False:",
        _GIT,
    ),
)
