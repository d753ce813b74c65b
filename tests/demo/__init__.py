"""The demo does the main job, and tells when an invariant breaks."""
