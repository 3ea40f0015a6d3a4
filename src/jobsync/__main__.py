"""`python -m jobsync`: the same as the `jobsync` command."""

from jobsync.cli import main

if __name__ == "__main__":
    main()
