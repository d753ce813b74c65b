"""The long form of the fuzzer: atheris looks for bytes that take a new way through the reader or the merge.

``python -m tests.hostile.atheris_targets TARGET FOLDER [FLAGS OF LIBFUZZER]``: TARGET is ``reader`` or ``merge``, and
atheris must be installed (``nox -s fuzz`` does so). It begins with the written corpus, and puts into FOLDER what it
finds worth keeping, and the bytes that broke a promise. What is promised is what ``test_fuzz`` asserts.
"""

from __future__ import annotations

import importlib
import random
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.hostile.mutations import PIECES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BETWEEN: Final = b"\0|\0"  #: stands between the three files of a merge
TRIPLES: Final = 300


def main(target: str, folder: str, *flags: str) -> None:
    """Fuzz until a flag of libFuzzer says that it is enough, or something is found."""
    atheris = importlib.import_module("atheris")  # no dependency of ours: not every machine has it
    with atheris.instrument_imports(include=["taskstore_async.core"]):
        fuzz = importlib.import_module("tests.hostile.test_fuzz")

    def reader(data: bytes) -> None:
        fuzz.assert_readable(dice_of(data), data)

    def merge(data: bytes) -> None:
        base, ours, theirs, *_ = [*data.split(BETWEEN, 2), b"", b""]
        fuzz.assert_merged(base, ours, theirs)

    triples = (BETWEEN.join(fuzz.three_files(dice_of(b"%d" % number))) for number in range(TRIPLES))
    targets: dict[str, tuple[Callable[[bytes], None], Iterable[bytes]]] = {
        "reader": (reader, (*fuzz.SMALL, fuzz.PLAIN)),
        "merge": (merge, triples),
    }
    run, seeds = targets[target]
    corpus = Path(folder) / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = Path(folder) / f"{target}.dict"
    words.write_text("".join(f'"{escaped(piece)}"\n' for piece in (*PIECES, BETWEEN) if len(piece) <= 64), "ascii")
    own = ["-max_len=4096", "-timeout=60", f"-dict={words}", f"-artifact_prefix={folder}/{target}-"]
    atheris.Setup([sys.argv[0], *own, *flags, str(corpus)], run)
    atheris.Fuzz()


def dice_of(data: bytes) -> random.Random:
    """The die that is thrown for these bytes."""
    return random.Random(zlib.crc32(data))  # noqa: S311 - reason: a die to throw again


def escaped(piece: bytes) -> str:
    """As a dictionary of libFuzzer has it."""
    return "".join(f"\\x{byte:02x}" for byte in piece)


if __name__ == "__main__":
    main(*sys.argv[1:])
