"""Input that was not written for us: every kind of damage, and clones that mean harm."""
