"""The async shell: one writer, a pool of readers, and the thread that each of them reaches its engine on.

Nothing here writes SQL, and nothing but ``worker`` asks which event loop is running.
"""
