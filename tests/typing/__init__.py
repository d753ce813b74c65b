"""Read by the type checkers, never run: what they must accept, infer and refuse."""
