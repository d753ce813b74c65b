"""Disks, descriptors and files that fail: what was acknowledged is kept, what failed is said, and it mends itself."""
