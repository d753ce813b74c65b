"""``python -m taskstore_async`` is ``tstore``."""

from __future__ import annotations

import sys

from taskstore_async.cli import main

if __name__ == "__main__":
    sys.exit(main())
