"""What the package promises, one sentence per test."""
