"""The git floor."""
