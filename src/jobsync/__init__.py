"""jobsync: coordination for fleets of Python workers on the PostgreSQL they already have."""
