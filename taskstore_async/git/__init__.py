"""The git floor: the merge driver, hooks and attributes."""
