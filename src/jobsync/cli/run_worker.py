"""One worker of `jobsync run`: `python -m jobsync.cli.run_worker TARGET [NAME [RUN]]`.

Without a name it only looks the target up. An error in finding the target, or of the library itself, is one line on
stderr; an exception of the user's function is the user's, and shows its traceback.
"""

import logging
import sys

from jobsync import CoordinationConfig, Job, JobsyncError
from jobsync.cli.processes import watch_lifeline
from jobsync.cli.targets import find_function


def main(arguments: list[str]) -> int:
    """Look the target up and, with a name, run it as a node of the fleet."""
    target, *rest = arguments
    try:
        function = find_function(target)
        if not rest:
            return 0
        watch_lifeline()
        name, run = rest[0], rest[1] if len(rest) > 1 else None
        job = Job(name, coordination_config=CoordinationConfig.from_env(), run=run, handle_signals=True)
        with job:
            function(job)
    except JobsyncError as error:
        sys.stderr.write(f"jobsync: {' '.join(str(error).split())}\n")
        return 2
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    sys.exit(main(sys.argv[1:]))
