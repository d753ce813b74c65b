"""Packs: modules of record types that are useful on the first day, and examples of how to write one's own."""
