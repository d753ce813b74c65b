"""The pure floor: records, queries, lines and how they fold. No I/O, no clock, no loop."""
