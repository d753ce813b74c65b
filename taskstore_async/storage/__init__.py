"""The engine: synchronous, loop-free, usable alone."""
