"""A feed of quotes over WebSockets, followed by a fleet: worker.py, the feed (server.py), the driver (play.py)."""
