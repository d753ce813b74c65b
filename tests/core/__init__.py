"""The pure floor."""
