"""Programs on a terminal of their own."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def shown_by(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], *, columns: int = 80, typing: bool = False
) -> tuple[int, str]:
    """Run a program on a terminal 24 lines high.

    Args:
        command: The program, and its words.
        folder: Where it runs.
        environment: Its environment.
        columns: How wide the terminal is.
        typing: Somebody could type there, and turn pages.

    Returns:
        Its exit code, and what was shown.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    stdin = theirs if typing else subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=stdin, stdout=theirs, stderr=theirs, cwd=folder, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65_536):
            shown += data
    except OSError as error:  # how Linux says that the other end has gone
        if error.errno != errno.EIO:
            raise
    finally:
        os.close(ours)
    return process.wait(), shown.decode().replace("\r\n", "\n")
