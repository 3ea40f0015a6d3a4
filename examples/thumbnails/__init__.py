"""A queue of pictures to be made small, by workers that are killed: worker.py, and the driver (play.py)."""
