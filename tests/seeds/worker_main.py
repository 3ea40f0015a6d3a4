"""The printed workers as real programs: one function for each form, chosen on the command line.

What the user brings is short here: a stream of items that never ends, and a word on standard output for the test.
"""

import argparse
import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from jobsync import Job, Task, config
from tests.seeds.support import Flask

job_instance: Job | None = None


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def get_pending_items() -> Iterator[int]:
    for number in itertools.count():
        time.sleep(0.002)
        yield number % 500


def readme(node_name: str) -> None:
    with Job(node_name, "production", config) as job:
        say("working")
        for item_id in get_pending_items():
            task = Task(item_id)
            if job.can_claim_task(task):
                job.add_task(task)


def audited(node_name: str) -> None:
    with Job(node_name, "production", config, wait_on_enter=0) as job:
        say("working")
        while True:
            for item_id in itertools.islice(get_pending_items(), 20):
                if job.can_claim_task(Task(item_id)):
                    job.add_task(item_id)
            job.write_audit()


def callbacks(node_name: str) -> None:
    opened: set[int] = set()
    with Job(
        node_name=node_name, config=config, on_tokens_added=opened.update, on_tokens_removed=opened.difference_update
    ):
        while not opened:
            time.sleep(0.01)
        try:
            say("working")
            while True:
                time.sleep(1)
        finally:
            say(f"closed, {'some' if opened else 'none'} open")


def nested(node_name: str) -> None:
    with Job(node_name, "production", config) as job:
        outer = job
        with Job(node_name=node_name, config=config) as job:  # noqa: PLW2901 - as printed
            try:
                say("working")
                while outer.am_i_healthy() and job.am_i_healthy():
                    time.sleep(1)
            finally:
                say("closed")


def web(node_name: str) -> None:
    app = Flask(__name__)
    with Job(node_name, "production", config):
        say("working")
        app.run(host="0.0.0.0", port=8080)


def waiting(node_name: str) -> None:
    say("working")
    with Job(node_name=node_name, config=config, wait_on_enter=120):
        say("never")


def graceful(node_name: str) -> None:
    def signal_handler(signum: int, frame: Any) -> None:
        if job_instance:
            job_instance.__exit__(None, None, None)
        sys.exit(0)

    signal.signal(signal.SIGTERM, signal_handler)
    signal.signal(signal.SIGINT, signal_handler)
    global job_instance  # noqa: PLW0603 - as printed
    with Job(node_name, "production", config) as job:
        job_instance = job
        say("working")
        for number in itertools.count():
            if job.can_claim_task(Task(number % 500)):
                job.add_task(Task(number % 500))
            # The handler finds the main thread inside the library, more often than not.
            job.write_audit()
            job.list_locks()


FORMS: dict[str, Callable[[str], None]] = vars(
    SimpleNamespace(
        readme=readme, audited=audited, callbacks=callbacks, nested=nested, web=web, waiting=waiting, graceful=graceful
    )
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=sorted(FORMS))
    parser.add_argument("--node-name", required=True)
    given = parser.parse_args()
    FORMS[given.form](given.node_name)
