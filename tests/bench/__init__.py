"""Tests of what measures. They count; a timing is a benchmark, not a test."""
