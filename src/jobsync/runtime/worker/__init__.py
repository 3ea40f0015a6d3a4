"""The running side of the leased queue: a hub that speaks with the database, and slots in which handlers run."""
