"""The benchmarks of the repository: ``python -m benchmarks --help``."""
