"""A process for the tests of leadership: one real node whose singleton writes down, all the time, whether it leads.

Each answer of `lead.held` goes to a file, with the boot clock before and after it, in the form that the judge of
answers reads: bit 0 is yes. On standard output the process says when it entered, and when it began and ceased to lead.
"""

import json
import logging
import os
import sys
import time
from typing import Any

from jobsync import CoordinationConfig, Job, Lead
from jobsync.runtime.clock import boot_sec
from tests.chaos.worker_main import EVERY_SEC, SAMPLE


def say(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def live(given: dict[str, Any]) -> None:
    answers = os.open(given["answers"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    job = Job(given["name"], coordination_config=CoordinationConfig(**given["settings"]), handle_signals=True)

    @job.singleton
    def answer(lead: Lead) -> None:
        say(leads=boot_sec(), epoch=lead.epoch)
        held = True
        while held and not job.wait(0):
            before_sec = boot_sec()
            held = lead.held
            os.write(answers, SAMPLE.pack(before_sec, boot_sec(), int(held), 0.0))
            time.sleep(EVERY_SEC)
        say(ceased=boot_sec(), held=held)

    with job:
        say(entered=boot_sec())
        job.wait()


def main() -> None:
    given = json.loads(sys.argv[1])
    logging.basicConfig(filename=given["log"], level=logging.DEBUG, format="%(asctime)s %(name)s %(message)s")
    if given.get("mutant"):
        # Break the rule on purpose: who led once is never told that it leads no more.
        Lead.held = property(lambda self: True)  # type: ignore[method-assign, assignment]
    live(given)


if __name__ == "__main__":
    main()
