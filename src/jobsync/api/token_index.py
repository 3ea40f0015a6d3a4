"""Remembered hashes: a task's token is computed once, however often it is asked for. Bounded; dies with the job."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from operator import is_

from jobsync.core.tasks import Task, TaskId, as_task, ids_of

MOST_TEXTS = 2_048
MOST_LISTS = 4


class TokenMemo(dict[str, int]):
    """Tokens by task text. Emptied when full: a working set that fits stays, a stream costs only its hashing."""

    __slots__ = ("_token_of",)

    def __init__(self, token_of: Callable[[str], int]) -> None:
        super().__init__()
        self._token_of = token_of

    def __missing__(self, text: str) -> int:
        token = self._token_of(text)
        if len(self) >= MOST_TEXTS:
            self.clear()
        self[text] = token
        return token


class _IndexedList:
    """One list as it was when it was indexed."""

    __slots__ = ("_homogeneous", "_snapshot", "ids_by_token")

    def __init__(self, ids: list[TaskId | Task], token_of: Callable[[str], int]) -> None:
        self._snapshot = list(ids)
        # Where all are of one simple type, equal means same text, and comparing lists is a scan of pointers.
        kinds = {type(each) for each in ids}
        self._homogeneous = kinds <= {str} or kinds <= {int}
        self.ids_by_token: dict[int, list[TaskId]] = {}
        for each in ids_of(ids):
            self.ids_by_token.setdefault(token_of(as_task(each).text), []).append(each)

    def still_describes(self, ids: list[TaskId | Task]) -> bool:
        """Tell whether the list is unchanged, element by element."""
        if self._homogeneous:
            return ids == self._snapshot
        return len(ids) == len(self._snapshot) and all(map(is_, ids, self._snapshot))


class TokenIndex:
    """Answers which ids of a list hash to one token, for callers that ask once a token over the same list."""

    def __init__(self, token_of: Callable[[str], int]) -> None:
        self._token_of = token_of
        self._lists: OrderedDict[int, _IndexedList] = OrderedDict()

    def ids_for_token(self, token: int, ids: Iterable[TaskId | Task]) -> list[TaskId]:
        """Give the ids that hash to the token, in order."""
        if not isinstance(ids, list):
            return [each for each in ids_of(ids) if self._token_of(as_task(each).text) == token]
        indexed = self._lists.get(id(ids))
        if indexed is None or not indexed.still_describes(ids):
            indexed = self._lists[id(ids)] = _IndexedList(ids, self._token_of)
            while len(self._lists) > MOST_LISTS:
                self._lists.popitem(last=False)
        return list(indexed.ids_by_token.get(token, ()))
