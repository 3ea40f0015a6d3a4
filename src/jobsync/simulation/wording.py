"""The lines of a trace: one event, one line, the same on every machine."""

from dataclasses import fields, is_dataclass

from jobsync.core import messages as m
from jobsync.core.leases import Instant
from jobsync.core.tokens import TokenSet


def word_event(event: m.Event) -> str:
    """Put an event into words."""
    match event:
        case m.Answered(question=question, answer=answer):
            return f"<- {type(question).__name__}: {type(answer).__name__}"
        case m.Refused(question=question):
            return f"<- {type(question).__name__} refused"
        case m.Broken(error=error):
            return f"hears that its session broke: {error}"
        case m.Notified(channel=channel, leader=leader):
            return f"is notified: {channel.value} {leader}".rstrip()
        case m.Drained(serial=serial):
            return f"has let go of hand-over {serial}"
        case _:
            return type(event).__name__


def word_answer(question: m.Question, answer: m.Answer | None) -> str:
    """Put a question and its answer into words."""
    return f"{word(question)}: {'a lock is held' if answer is None else word(answer)}"


def word(value: object) -> str:  # noqa: PLR0911 - one case a kind of value
    """Put a value into words: dataclasses by their fields, sets in order, whatever the hash seed."""
    if isinstance(value, TokenSet):
        return value.text()
    if isinstance(value, m.Identity):
        return f"{value.name}/{value.incarnation}/{value.bind}"
    if isinstance(value, Instant):
        return f"{value.boot_sec:.6f}"
    if is_dataclass(value) and not isinstance(value, type):
        inner = " ".join(f"{f.name}={word(getattr(value, f.name))}" for f in fields(value))
        return f"{type(value).__name__}({inner})"
    if isinstance(value, frozenset | set):
        return "{" + ",".join(sorted(map(word, value))) + "}"
    if isinstance(value, tuple | list):
        return "(" + ",".join(map(word, value)) + ")"
    if hasattr(value, "items"):
        return "{" + ",".join(sorted(f"{key}:{word(item)}" for key, item in value.items())) + "}"
    return str(value)
