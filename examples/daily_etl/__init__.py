"""A daily load of files, each exactly once: worker.py, and the driver (play.py)."""
