"""The older calls."""
