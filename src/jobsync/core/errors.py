"""What can go wrong, by name, and how an error text is kept free of passwords.

Model: every error that jobsync raises to its users is a `JobsyncError`, and also the built-in that a
reader expects (`ValueError` for a value, `TypeError` for a type, `TimeoutError`, `ConnectionError`), so that
code which knows nothing of jobsync still catches it in the right place. A message says what happened, to
whom, and what to do next.

Authoritative: these classes are the whole list. A driver's own error is translated at the edge and kept
as the cause.

Passwords: `redact` works on any text, by what passwords look like and by the passwords that the caller
names; where it is in doubt it removes too much. `shown_conninfo` is for a connection string as such: it reads
the whole of it and shows only what it knows to be harmless. Not promised: that `redact` finds a
password which is neither named by the caller nor written in one of the forms that it describes.
"""

# Names of errors are part of the contract: they say what happened, and do not end in "Error".
# ruff: noqa: N818

import re
from collections.abc import Iterable, Iterator
from typing import Final, Self
from urllib.parse import unquote

_ENDLESS: Final = 10 * 365 * 86_400  # Longer waits are a mistake, and overflow what counts them.


class JobsyncError(Exception):
    """Stand above every error of jobsync; catch it to catch them all."""


class InvalidSettings(JobsyncError, ValueError):
    """Refuse a setting: the message names the setting, its value, the rule, and a value that would do.

    Raised while `CoordinationConfig` is built or the environment is read, before anything is connected.
    """


class InvalidArgument(JobsyncError, ValueError):
    """Refuse an argument of a call: right in type, wrong in value. Nothing was written; correct the call."""


class InvalidTaskId(JobsyncError, TypeError):
    """Refuse a task id whose text may differ from one process to the next.

    Give a str, int, bool, bytes, UUID, date, datetime, Decimal, or a tuple of these.
    """


class ConfigMismatch(JobsyncError, ValueError):
    """Refuse to join a cluster that runs with other settings, such as `total_tokens` or `hash_function`.

    The message names both values. Start this node with the cluster's value, or stop every node first:
    with nobody alive the new values are taken.
    """


class NodeNameInUse(JobsyncError):
    """Refuse a node name that a live process holds already. Give each process a name of its own."""


class EnterTimeout(JobsyncError, TimeoutError):
    """Report that entering took too long: too few nodes, or no tokens. The node has left the cluster again.

    The message names both counts. Start the missing nodes, lower `minimum_nodes`, or wait longer.
    """


class DatabaseUnavailable(JobsyncError, ConnectionError):
    """Report that the database cannot be reached; the message names host, port and database.

    Check that it runs and that the settings point at it. What had been acknowledged is not lost.
    """


class ConnectionsLent(JobsyncError, TimeoutError):
    """Report that bodies of `job.transaction()` hold every connection of this node's pool, and none came back in time.

    Use fewer threads or shorter bodies. Claims and audits have connections of their own and go on.
    """


class TransactionLost(JobsyncError, ConnectionError):
    """Report that the server ended the session of a `job.transaction()` before its commit was seen.

    It idled for over 5 s, or the server or the network went away. Do the task again: `AlreadyDone` tells if the
    commit took place after all.
    """


class SchemaError(JobsyncError):
    """Report tables that this program cannot use: missing, not granted to this role, or too old or too new for it.

    Nothing was changed. The message names the command or the SQL file that a database administrator runs, or says to
    update the program.
    """


class OwnershipLost(JobsyncError):
    """Report that the task's token went to another node before the work was committed: nothing was written.

    Drop the task: its new owner does it.
    """


class AlreadyDone(JobsyncError):
    """Report that the task was done before, in this run or on this date: nothing was written.

    Skip the task; for streaming work that repeats, pass `repeat=True`.
    """


class CoordinationDisabled(JobsyncError):
    """Refuse what needs the database in a job that stands alone. Configure coordination to use it."""


class NotRunning(JobsyncError):
    """Refuse the use of a job before it was entered or after it was left. Use it inside `with Job(...)`."""


class LeaderTimeout(JobsyncError, TimeoutError):
    """Report that this node did not become the leader in time. Wait longer, or leave the work to the one that leads."""


class JobStopped(JobsyncError):
    """Report that the job was stopped while it waited to lead: nothing was begun. Let the program end."""


class LeaseLost(JobsyncError):
    """Report that a job of the queue is this attempt's no more: its lease was lost, or it was cancelled or ended.

    Nothing was written. Stop working on it: what it returns will be refused, and others have it or will.
    """


class Retry(JobsyncError):
    """Raise it in a handler to have the job tried again: a failed attempt, charged like any other.

    `after_sec` is how long to wait at least; None leaves it to the kind's RetryPolicy. On the last attempt the job
    fails.
    """

    def __init__(self, after_sec: float | None = None, reason: str = "") -> None:
        if after_sec is not None and not (isinstance(after_sec, int | float) and 0 <= after_sec < _ENDLESS):
            raise InvalidArgument(f"after_sec={after_sec!r} is refused: give seconds, 0 or more, or None")
        super().__init__(reason or "the handler asked for another try")
        self.after_sec = None if after_sec is None else float(after_sec)
        self.reason = reason

    def __reduce__(self) -> tuple[type[Self], tuple[float | None, str]]:
        return type(self), (self.after_sec, self.reason)


class Cancel(JobsyncError):
    """Raise it in a handler to end the job as `cancelled`: there is no sense in trying it again."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "the handler cancelled it")
        self.reason = reason

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.reason,)


class ExtraMissing(JobsyncError, ImportError):
    """Report that an optional part is not installed; the message names the extra to install."""


# --- passwords ---------------------------------------------------------------------------------

MASK: Final = "***"

# libpq's secrets, and every variable or key that ends in "password" (PGPASSWORD, SYNC_SQL_PASSWORD).
_KEY: Final = r"(?:[a-z_]*password|passwd|oauth_client_secret|scram_(?:client|server)_key)"
_QUOTED: Final = r"'(?:[^'\\]|\\.|'')*(?:'|\Z)"
# What was masked before stays as it is, and so does the comma after it.
_MASKED: Final = r"\*{3}(?![^\s,;)}\]'\"])"
_IN_QUERY: Final = re.compile(rf"(?is)([?&]{_KEY}=)([^\s&#]*)")
_IN_PAIRS: Final = re.compile(
    rf"(?is)(?<![?&a-z_])({_KEY}(?:['\"]\s*[:=]|\s*=)\s*)"
    rf"({_MASKED}|{_QUOTED}|\"(?:[^\"\\]|\\.)*\"|(?:\\.|[^\s\\])*\\?)"
)
# Up to the last @ of the authority; failing that of the word; failing that of the line: people write
# passwords into URLs unescaped, with slashes, blanks and at-signs in them, and none of it may be shown.
_IN_URL: Final = re.compile(r"(?i)(\b[a-z][a-z0-9+.\-]{0,30}://[^\s:@]*:)([^\s/?#]*(?=@(?!\S*@))|\S*(?=@)|[^\n]*(?=@))")
# In a text known to be one URL, the last @ of all ends the password.
_LOGIN: Final = re.compile(r"(?s)(://[^\s:@]*:)(.*)(?=@)")
_SHORT_SECRET: Final = 4


def redact(text: str, secrets: Iterable[str | None] = ()) -> str:
    """Remove passwords from a text that people or logs will see.

    Removed are `password=...` and its kin (`sslpassword`, `PGPASSWORD`; bare, quoted, with escapes; in a
    conninfo, a URL's query, or a printed mapping), the password of any URL, and each of `secrets` wherever
    it stands, plain, escaped, or percent-encoded. A secret of fewer than four characters is removed only
    where it stands alone: otherwise a password `a` would make every message unreadable. Where the end of a
    password cannot be told, more than the password goes. Applying it twice changes nothing more.
    """
    known = _pattern_of({secret for secret in secrets if secret and secret.strip("*")})
    if known is not None:
        text = known.sub(MASK, text)
    for pattern in (_IN_URL, _IN_QUERY, _IN_PAIRS):
        text = pattern.sub(rf"\g<1>{MASK}", text)
    return text


def passwords_in(conninfo: str) -> frozenset[str]:
    """List the passwords inside a connection string, as written and as decoded, to hand them to `redact`."""
    found = {password for password in _passwords_in(conninfo) if password}
    if found and shown_conninfo(conninfo) == MASK:
        # It is malformed, most likely by the password itself: a driver's complaint quotes pieces of it.
        found |= {piece for password in found for piece in re.split(r"[\s/?#@:&=,]+", password) if piece}
        found |= set(_words_after_a_password(conninfo))
    return frozenset(found)


def _passwords_in(conninfo: str) -> Iterator[str]:
    for pattern in (_LOGIN, _IN_URL, _IN_QUERY):
        for match in pattern.finditer(conninfo):
            yield from (match[2], unquote(match[2]))
    for match in _IN_PAIRS.finditer(conninfo):
        bare = match[2]
        if len(bare) > 1 and bare[0] in "'\"" and bare[-1] == bare[0]:
            bare = bare[1:-1]
        yield from (match[2], bare, re.sub(r"(?s)\\(.)", r"\1", bare))


def _words_after_a_password(conninfo: str) -> Iterator[str]:
    for match in _IN_PAIRS.finditer(conninfo):
        yield from (word for word in conninfo[match.end() :].split() if "=" not in word)


def _pattern_of(secrets: set[str]) -> re.Pattern[str] | None:
    # The longest first, so that a secret which begins with another is removed as a whole.
    forms = [_forms_of(secret) for secret in sorted(secrets, key=lambda secret: (-len(secret), secret))]
    return re.compile("|".join(forms)) if forms else None


def _forms_of(secret: str) -> str:
    form = "".join(map(_forms_of_character, secret))
    return rf"(?<!\w){form}(?!\w)" if len(secret) < _SHORT_SECRET else form


def _forms_of_character(character: str) -> str:
    encoded = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    plus = r"|\+" if character == " " else ""
    return rf"(?:\\?{re.escape(character)}|(?i:{encoded}){plus})"


# --- connection strings ------------------------------------------------------------------------

_HARMLESS: Final = re.compile(
    r"host|hostaddr|port|dbname|user|application_name|service|sslmode|sslnegotiation|gssencmode|channel_binding|"
    r"connect_timeout|tcp_user_timeout|keepalives\w*|target_session_attrs|load_balance_hosts|client_encoding"
)
# Known, and hidden all the same: files, and options that may carry anything.
_HIDDEN: Final = re.compile(rf"{_KEY}|options|passfile|sslcert|sslkey|sslrootcert|sslcrl|fallback_application_name")
_PAIR: Final = re.compile(r"(?s)\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:\\.|[^\s\\'])(?:\\.|[^\s\\])*|(?=\s*\Z))\s*")
_HOST: Final = r"(?:[^\s:@/?#,\[\]]*|\[[\w:.%]*\])(?::\d*)?"
_URL: Final = re.compile(
    r"(?P<scheme>postgres(?:ql)?://)(?:(?P<user>[^\s:@/?#]*)(?P<password>:[^\s@/?#]*)?@)?"
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)"
    r"(?P<path>/[^\s:@/?#]*)?(?P<query>\?[^\s@#]*)?"
)


def shown_conninfo(conninfo: str) -> str:
    """Give the form of a connection string that may be shown: only known, harmless values stand in it.

    `embedded` is shown as it is. A string that is neither a well-formed URL nor well-formed pairs is not
    shown at all: in `password=my secret` the second word is a part of the password, and no program can know.
    """
    if conninfo == "embedded":
        return conninfo
    if "://" in conninfo:
        url = _URL.fullmatch(conninfo)
        return MASK if url is None else _shown_url(url)
    return _shown_pairs(conninfo)


def _shown_url(url: re.Match[str]) -> str:
    login = "" if url["user"] is None else url["user"] + (f":{MASK}" if url["password"] else "") + "@"
    shown = url["scheme"] + login + url["hosts"] + (url["path"] or "")
    if not url["query"]:
        return shown
    pairs = [part.partition("=") for part in url["query"][1:].split("&")]
    if not all(equals and _is_known(key) for key, equals, _ in pairs):
        return MASK
    return shown + "?" + "&".join(f"{key}={_shown_value(key, value)}" for key, _, value in pairs)


def _shown_pairs(conninfo: str) -> str:
    shown: list[str] = []
    position = 0
    while position < len(conninfo):
        pair = _PAIR.match(conninfo, position)
        if pair is None or not _is_known(pair[1]):
            return MASK
        shown.append(f"{pair[1]}={_shown_value(pair[1], pair[2])}")
        position = pair.end()
    return " ".join(shown)


def _is_known(key: str) -> bool:
    return bool(_HARMLESS.fullmatch(key) or _HIDDEN.fullmatch(key))


def _shown_value(key: str, value: str) -> str:
    return shown_value(value) if _HARMLESS.fullmatch(key) else MASK


def shown_value(value: str) -> str:
    """Give a host, database or user name as it may be shown: hidden where a login was put into it by mistake.

    Libraries accept `dbname=postgresql://user:secret@host/db`, so people write it.
    """
    return MASK if "=" in value or "://" in value or (":" in value and "@" in value) else value
