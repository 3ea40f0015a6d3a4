"""Tasks that prefer some nodes and fall back to others: worker.py, and the driver (play.py)."""
