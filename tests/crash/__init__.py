"""Processes that are killed and disks that lose power: what was acknowledged is there, whole, and nothing else is."""
