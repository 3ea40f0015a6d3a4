"""What is logged bears a stable name: every call, the table of events, and the page say the same."""

import ast
import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any, NamedTuple

import pytest
import structlog
from pythonjsonlogger.json import JsonFormatter

from jobsync import Job, JobQueue, ProcessingWorker
from jobsync.core.log_catalogue import EVENTS, FACTS, LogEvent, reference
from jobsync.core.log_events import Event
from jobsync.core.messages import FactKind
from tests.api.jobs import eventually, settings
from tests.docs.pages import ROOT, marked

SOURCES = sorted((ROOT / "src").rglob("*.py"))
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
TABLE: dict[str, LogEvent] = {each.event.value: each for each in (*FACTS, *EVENTS)}


class Call(NamedTuple):
    """One call of a logger: where, how loud, and its `extra` as it is written."""

    where: str
    method: str
    extra: ast.expr | None


def calls() -> Iterator[Call]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in METHODS and ast.unparse(node.func.value) in {"log", "_log", "logger", "_logger"}:
                extra = next((each.value for each in node.keywords if each.arg == "extra"), None)
                yield Call(f"{path.relative_to(ROOT)}:{node.lineno}", node.func.attr, extra)


def marked_in(extra: ast.expr) -> tuple[str, set[str]] | None:
    """Read `marks(Event.NAME, field=...)`."""
    if isinstance(extra, ast.Call) and ast.unparse(extra.func) == "marks":
        name = ast.unparse(extra.args[0]).removeprefix("Event.")
        return Event[name].value, {str(each.arg) for each in extra.keywords}
    return None


CALLS = list(calls())


def test_all_calls_are_found() -> None:
    assert len(CALLS) > 50
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert (
        text.count("getLogger(") - text.count('getLogger("uvicorn')
        <= len({call.where.split(":")[0] for call in CALLS}) + 6
    )


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.where)
def test_each_call_bears_an_event_with_the_fields_that_it_is_said_to_have(call: Call) -> None:
    assert call.extra is not None, "say what it is: extra=marks(Event.NAME, ...)"
    found = marked_in(call.extra)
    if found is None:  # A fact, or marks that were made before.
        assert ast.unparse(call.extra) in {"marks_of(fact, self.name)", "_NOT_OWNED", "_TAKEN"}
        return
    name, fields = found
    assert fields == set(TABLE[name].fields)
    level = {"exception": "error"}.get(call.method, call.method)
    assert TABLE[name].level == ("" if level == "log" else level)


def test_the_table_names_every_event_once_and_each_is_logged() -> None:
    assert len(TABLE) == len(FACTS) + len(EVENTS)
    assert set(TABLE) == {each.value for each in (*Event, *FactKind)}
    used = "".join(path.read_text(encoding="utf-8") for path in SOURCES if path.name != "log_catalogue.py")
    assert not [each for each in Event if f"Event.{each.name}" not in used]
    assert not [each for each in FactKind if f"FactKind.{each.name}" not in used]


def test_the_page_is_the_table() -> None:
    assert "\n".join(marked("operate/logs.md", "events")) == reference()


class Kept(logging.Handler):
    """Keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[list[logging.LogRecord]]:
    log, handler = logging.getLogger("jobsync"), Kept()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler.records
    log.removeHandler(handler)
    log.setLevel(before)


def play(dsn: str, prefix: str) -> None:
    """Let something of everything happen."""
    config = settings(dsn, prefix)

    def slow(tokens: set[int]) -> None:
        raise ValueError(len(tokens))

    with Job("a", coordination_config=config, on_tokens_added=slow, run="r") as job, JobQueue(config) as queue:
        with Job("b", coordination_config=config):
            eventually(lambda: len(job.my_tokens) == 50)
            assert not all(job.add_task(number) for number in range(50))
        worker = ProcessingWorker(config, poll_interval_ms=100)

        @worker.handles("ends itself")
        def ends(job: Any) -> str:
            worker.release_lease(job.id, "done")
            return "too late"

        with worker:
            queue.enqueue("ends itself")
            eventually(lambda: queue.counts()["done"] == 1)


def test_every_record_bears_what_the_table_says(server_dsn: str, prefix: str, kept: list[logging.LogRecord]) -> None:
    play(server_dsn, prefix)
    seen = set()
    for record in kept:
        event = TABLE[vars(record)["jobsync_event"]]
        seen.add(event.event)
        fields = {name.removeprefix("jobsync_") for name in vars(record) if name.startswith("jobsync_")} - {"event"}
        assert fields <= {*event.fields, "count"}, event
        optional = {"seconds"} if isinstance(event.event, FactKind) else set()
        assert set(event.fields) - optional <= fields, event
        assert event.level in {"", record.levelname.lower()}
    assert {FactKind.GRANTED, FactKind.GAVE_UP, FactKind.PLANNED, FactKind.LEADS, FactKind.LEFT} <= seen
    assert {Event.CALLBACK_FAILED, Event.TASK_NOT_OWNED, Event.JOB_RESULT_DROPPED} <= seen


def a_record() -> logging.LogRecord:
    record = logging.LogRecord("jobsync", logging.INFO, "x.py", 1, "node %r: 5 tokens", ("a",), None)
    vars(record).update(jobsync_event="granted", jobsync_node="a", jobsync_count=5)
    return record


def test_it_goes_through_a_json_formatter() -> None:
    told = json.loads(JsonFormatter("%(levelname)s %(message)s").format(a_record()))
    assert told == {
        "levelname": "INFO",
        "message": "node 'a': 5 tokens",
        "jobsync_event": "granted",
        "jobsync_node": "a",
        "jobsync_count": 5,
    }


def test_it_goes_through_structlog() -> None:
    out = StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    handler.handle(a_record())
    told = json.loads(out.getvalue())
    assert told == {"event": "node 'a': 5 tokens", "jobsync_event": "granted", "jobsync_node": "a", "jobsync_count": 5}
