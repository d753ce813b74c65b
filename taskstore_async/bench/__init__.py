"""What ``tstore bench`` runs, and what the benchmarks of the repository measure with."""
