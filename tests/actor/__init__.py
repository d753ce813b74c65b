"""The async shell, on every loop."""
