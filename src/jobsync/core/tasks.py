"""Tasks: what a unit of work is called, and when two names mean the same task.

Model: a task is its id, and the id counts by its text, `str(id)`: that text is hashed to a token, stored
in the tables, and compared. `1` and `'1'` are one task. Every process of a fleet must therefore make the
same text of the same id; that is the whole reason for the list of accepted types, and for what is refused.

Authoritative: `task_text`. Nothing else turns an id into text.

Not promised: that two values which mean the same have one text. `Decimal('1.0')` and `Decimal('1')` are
two tasks, and so is one instant in two time zones. Inside a tuple a text is shown as Python's `repr` shows
it, so a character that the older Python of a mixed fleet does not know yet is escaped there and plain here.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timezone
from decimal import Decimal
from functools import total_ordering
from typing import Final, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from jobsync.core.errors import InvalidArgument, InvalidTaskId

TaskId: TypeAlias = str | int | bytes | UUID | date | Decimal | tuple[object, ...]
"""What may name a task: `bool` is an `int`, `datetime` a `date`; the members of a tuple are such again."""


@total_ordering
class Task:
    """One unit of work: an id, and a name for people.

    `text` is the id as it counts everywhere: equality and hash go by it. Order goes by id where the two ids
    can be compared, else by text; so a mixed list sorts without an error, though such an order is not
    transitive (9 < 10, 10 < '5', '5' < 9). Immutable, and cheap: loops build one for every id.

    Raises `InvalidTaskId` (a `TypeError`) for an id whose text may differ between processes, and
    `InvalidArgument` (a `ValueError`) for text that PostgreSQL cannot store.
    """

    __match_args__ = ("id", "name")
    __slots__ = ("_id", "_name", "_text")

    def __init__(self, id: TaskId, name: str | None = None) -> None:  # noqa: A002 - users write Task(id=...)
        if name is not None and not isinstance(name, str):
            raise InvalidArgument(f"the name of a task is text or None, not {_type_name(name)}")
        self._text = task_text(id)
        self._id = id
        self._name = name

    @property
    def id(self) -> TaskId:
        """The id as it was given."""
        return self._id

    @property
    def name(self) -> str | None:
        """The name for people; it decides nothing."""
        return self._name

    @property
    def text(self) -> str:
        """The id as it is hashed, stored and compared."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return self._text == other.text if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Task):
            return NotImplemented
        try:
            if self._id < other.id:  # type: ignore[operator]
                return True
            if other.id < self._id:  # type: ignore[operator]
                return False
        except (TypeError, ArithmeticError):  # The second is a Decimal that is not a number.
            pass
        return self._text < other.text

    def __repr__(self) -> str:
        return f"Task({self._id!r})" if self._name is None else f"Task({self._id!r}, name={self._name!r})"


MOST_BYTES: Final = 2_000
_SURELY_SHORT: Final = MOST_BYTES // 4  # So many characters are never more bytes.
"""The longest text of an id, in UTF-8: with a run and a date beside it, it has to fit into an index entry."""

OneOrMany: TypeAlias = Task | TaskId | Iterable[Task | TaskId]


def as_task(task_or_id: Task | TaskId) -> Task:
    """Give the task itself, or the task of a bare id."""
    return task_or_id if isinstance(task_or_id, Task) else Task(task_or_id)


def ids_of(one_or_many: OneOrMany) -> Iterator[TaskId]:
    """Iterate over the ids of one task or of many, lazily and as they were given.

    A `Task`, a str, bytes or tuple is one; any other iterable is many. The ids are checked when a `Task` is
    made of them, not here.
    """
    return (each.id if isinstance(each, Task) else each for each in _each(one_or_many))


def tasks_of(one_or_many: OneOrMany) -> Iterator[Task]:
    """Iterate over one task or over many, lazily; bare ids become tasks, tasks keep their names."""
    return map(as_task, _each(one_or_many))


def _each(one_or_many: OneOrMany) -> Iterator[Task | TaskId]:
    if isinstance(one_or_many, bytearray | memoryview):
        # Iterating would give numbers, silently: one task a byte.
        raise InvalidTaskId(_refusal(one_or_many))
    if isinstance(one_or_many, Task | str | bytes | tuple) or not isinstance(one_or_many, Iterable):
        return iter((one_or_many,))
    return iter(one_or_many)


# --- the text of an id ---------------------------------------------------------------------------


def task_text(task_id: TaskId) -> str:
    """Give the text by which an id is hashed, stored and compared: `str(task_id)`, the same in every process.

    Raises `InvalidTaskId` for a type whose text may differ between processes, `InvalidArgument` for text
    that holds NUL or half a surrogate pair, which PostgreSQL cannot store, and for an int of so many digits
    that Python will not write it.
    """
    kind = type(task_id)
    if kind is str:
        text: str = task_id  # type: ignore[assignment]
    elif kind in _EXACT:
        return _written(task_id)
    elif kind is tuple:
        _check_members(task_id)  # type: ignore[arg-type]
        return _written(task_id)
    else:
        text = _text_of_subclass(task_id)
    if len(text) > _SURELY_SHORT:
        _check_length(text)
    if text.isascii():
        if "\0" in text:
            raise InvalidArgument(f"task id {text!r} holds a NUL character, which PostgreSQL cannot store")
        return text
    return _checked(text)


_EXACT: Final = frozenset({int, bool, bytes, UUID, date, datetime, Decimal})


def _written(task_id: object) -> str:
    try:
        # The str of bytes is their repr, but asking for it is an error under `python -bb`.
        text = repr(task_id) if type(task_id) is bytes else str(task_id)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"this task id of type {_type_name(task_id)} has no text: {error}") from error
    if len(text) > _SURELY_SHORT:
        _check_length(text)
    return text


def _check_length(text: str) -> None:
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise InvalidArgument(
            f"a task id of {len(text)} characters is too long ({text[:40]!r}...): at most {MOST_BYTES} bytes, which "
            "an index of PostgreSQL can hold; name the task by a digest of it"
        )


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"task id {text!a} holds half a surrogate pair (index {error.start}), which is no Unicode text "
            "and cannot be stored by PostgreSQL: decode the bytes that it came from, or give the bytes"
        ) from error
    if "\0" in text:
        raise InvalidArgument(f"task id {text!a} holds a NUL character, which PostgreSQL cannot store")
    return text


def _check_members(task_id: tuple[object, ...]) -> None:
    """Refuse a tuple whose members are not of exactly the accepted types: it shows them by their repr."""
    unchecked: list[object] = [*task_id]
    while unchecked:
        member = unchecked.pop()
        kind = type(member)
        if kind is tuple:
            unchecked.extend(member)  # type: ignore[arg-type]
        elif kind is datetime:
            _check_time_zone(member)  # type: ignore[arg-type]
        elif kind is not str and kind not in _EXACT:
            raise InvalidTaskId(f"a tuple is a task id only if its members are: {_refusal(member)}")


def _check_time_zone(moment: datetime) -> None:
    zone = moment.tzinfo
    if zone is None or type(zone) is timezone or (type(zone) is ZoneInfo and zone.key):
        return
    raise InvalidTaskId(
        f"a datetime inside a task id shows its time zone, and the text of a {_type_name(zone)} may differ "
        "from process to process: use datetime.timezone or zoneinfo.ZoneInfo(key), or give its isoformat()"
    )


# What str() gives for the plain type. The order matters: a datetime is a date.
_PLAIN_TEXT: Final[tuple[tuple[type, Callable[..., str]], ...]] = (
    (str, str.__str__),
    (int, int.__repr__),
    (bytes, bytes.__repr__),
    (UUID, UUID.__str__),
    (datetime, lambda moment: datetime.isoformat(moment, " ")),
    (date, date.isoformat),
    (Decimal, Decimal.__str__),
    (tuple, tuple.__repr__),
)


def _text_of_subclass(task_id: object) -> str:
    """Accept a value of a subclass if it shows itself exactly as the plain type would."""
    plain = next((plain for plain in _PLAIN_TEXT if isinstance(task_id, plain[0])), None)
    if plain is None:
        raise InvalidTaskId(_refusal(task_id))
    base, text_of = plain
    if isinstance(task_id, tuple):
        _check_members(task_id)
    text = text_of(task_id)
    shown = str(task_id)
    if shown != text:
        raise InvalidTaskId(
            f"a task id counts by its text, and {_type_name(task_id)} shows itself as {shown!a} where a "
            f"plain {base.__name__} would be {text!a}; such texts differ between versions and processes: "
            f"give the plain {base.__name__}, or the text that you mean"
        )
    return text


_RULE: Final = (
    "a task id is a str, int, bool, bytes, UUID, date, datetime, Decimal, or a tuple of these, "
    "because its text must be the same in every process"
)
_ADVICE: Final[dict[type, str]] = {
    float: "floats that should be equal print differently (0.1 + 0.2, 0.3): give a Decimal, an int, or text",
    type(None): "None is what a missing value looks like, and all rows without an id would be one task",
    list: "give tuple(id)",
    set: "the order of a set differs from process to process: give tuple(sorted(id))",
    frozenset: "the order of a set differs from process to process: give tuple(sorted(id))",
    dict: "give the key that identifies it, or text",
    bytearray: "give bytes(id)",
    memoryview: "give bytes(id)",
    Task: "it is a Task already: use it as it is",
}


def _refusal(task_id: object) -> str:
    advice = _ADVICE.get(type(task_id), "give str(id) or int(id) if that is what you mean")
    return f"{_RULE}; {_type_name(task_id)} is not: {advice}"


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
