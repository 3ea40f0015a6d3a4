"""Errors: each is what its name promises, and none of their texts carries a password."""

import pickle
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync.core import errors
from jobsync.core.errors import JobsyncError, passwords_in, redact, shown_conninfo, shown_value

BUILT_IN = {
    "InvalidSettings": ValueError,
    "InvalidArgument": ValueError,
    "InvalidTaskId": TypeError,
    "ConfigMismatch": ValueError,
    "NodeNameInUse": JobsyncError,
    "EnterTimeout": TimeoutError,
    "DatabaseUnavailable": ConnectionError,
    "ConnectionsLent": TimeoutError,
    "TransactionLost": ConnectionError,
    "SchemaError": JobsyncError,
    "OwnershipLost": JobsyncError,
    "AlreadyDone": JobsyncError,
    "CoordinationDisabled": JobsyncError,
    "NotRunning": JobsyncError,
    "LeaderTimeout": TimeoutError,
    "JobStopped": JobsyncError,
    "LeaseLost": JobsyncError,
    "ExtraMissing": ImportError,
}
# What a handler raises to say what is to become of its job.
SAID_BY_HANDLERS = {errors.Retry, errors.Cancel}

# Capitals stand in passwords alone, so a capital in what is shown is a piece of a password.
PIECES = "ZQX"
passwords = st.text(alphabet=PIECES + "'\"\\ @/:%&=#?+.,;-é", min_size=1).filter(
    lambda text: any(p in text for p in PIECES)
)


def leaks(shown: str) -> bool:
    return any(piece in shown for piece in PIECES)


def every_error() -> list[type[JobsyncError]]:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, JobsyncError)]
    return [each for each in kinds if each not in SAID_BY_HANDLERS]


def test_the_list_of_errors_is_the_contracts() -> None:
    assert {each.__name__ for each in every_error()} == {"JobsyncError", *BUILT_IN}


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_error_is_a_jobsync_error_and_the_built_in_that_a_reader_expects(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, JobsyncError)
    assert issubclass(kind, BUILT_IN[name])


@pytest.mark.parametrize("kind", every_error())
def test_each_error_travels_between_processes_with_its_text(kind: type[JobsyncError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what happened, and what to do")))
    assert type(error) is kind
    assert str(error) == "what happened, and what to do"


@pytest.mark.parametrize("said", [errors.Retry(), errors.Retry(2.5, "busy"), errors.Cancel(), errors.Cancel("gone")])
def test_what_a_handler_says_travels_between_processes(said: errors.Retry | errors.Cancel) -> None:
    heard = pickle.loads(pickle.dumps(said))
    assert (type(heard), str(heard), vars(heard)) == (type(said), str(said), vars(said))


@pytest.mark.parametrize("kind", every_error())
def test_each_error_explains_itself(kind: type[JobsyncError]) -> None:
    assert kind.__dict__.get("__doc__")


# --- redact --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("password=ZQX host=db", "password=*** host=db"),
        ("password = ZQX host=db", "password = *** host=db"),
        ("PASSWORD=ZQX", "PASSWORD=***"),
        (r"password='Z\' Q\\' host=db", "password=*** host=db"),
        (r"password=Z\ Q host=db", "password=*** host=db"),
        ("password='ZQX never closed", "password=***"),
        ("sslpassword=ZQX host=db", "sslpassword=*** host=db"),
        ("PGPASSWORD=ZQX psql -h db", "PGPASSWORD=*** psql -h db"),
        ("SYNC_SQL_PASSWORD=ZQX", "SYNC_SQL_PASSWORD=***"),
        ("{'password': 'ZQX', 'host': 'db'}", "{'password': ***, 'host': 'db'}"),
        ('{"password": "ZQX"}', '{"password": ***}'),
        ("postgresql://me:ZQX@db:5432/jobs", "postgresql://me:***@db:5432/jobs"),
        ("postgresql://me:Z%40Q@db/jobs", "postgresql://me:***@db/jobs"),
        ("postgresql://me:Z@Q@db/jobs", "postgresql://me:***@db/jobs"),
        ("postgresql://me:Z/Q?X@db/jobs", "postgresql://me:***@db/jobs"),
        ("postgresql://me:Z Q@db/jobs", "postgresql://me:***@db/jobs"),
        (
            "postgresql://db/jobs?password=ZQX&sslmode=require",
            "postgresql://db/jobs?password=***&sslmode=require",
        ),
        ("postgresql://db/jobs?sslpassword=ZQX", "postgresql://db/jobs?sslpassword=***"),
        ("amqp://me:ZQX@broker", "amqp://me:***@broker"),
    ],
)
def test_a_written_password_is_removed_and_the_rest_stays(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        'connection to server at "db", port 5432 failed: FATAL: password authentication failed for user "me"',
        "postgresql://db:5432/jobs refused the connection",
        "fe_sendauth: no password supplied",
        "could not reach me@db:5432/jobs",
        "{'password': ***, 'host': 'db'}",
    ],
)
def test_a_text_without_a_password_is_left_alone(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "written",
    ["Z'Q X\\", "Z\\'Q X\\\\", quote("Z'Q X\\"), quote("Z'Q X\\", safe=""), "Z%27Q+X%5c"],
)
def test_a_named_secret_is_removed_in_every_way_that_it_may_be_written(written: str) -> None:
    assert redact(f"the server said {written}!", ["Z'Q X\\"]) == "the server said ***!"


def test_of_two_secrets_the_longer_goes_as_a_whole() -> None:
    assert redact("zebras and zebra", ["zebra", "zebras"]) == "*** and ***"


def test_a_secret_of_few_letters_goes_only_where_it_stands_alone() -> None:
    assert redact("a cat: 'a'", ["a"]) == "*** cat: '***'"
    assert redact("zealous", ["zea"]) == "zealous"
    assert redact("zealous", ["zeal"]) == "***ous"


def test_a_secret_of_asterisks_is_a_mask_and_no_secret() -> None:
    assert redact("a ** b, and ***", ["**", "*", "***"]) == "a ** b, and ***"


def test_secrets_that_are_not_there_change_nothing() -> None:
    assert redact("as it was", ["", None]) == "as it was"


def conninfo_of(password: str) -> str:
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    return f"host=db password='{escaped}' dbname=jobs"


def url_of(password: str) -> str:
    return f"postgresql://me:{quote(password, safe='')}@db:5432/jobs"


def query_of(password: str) -> str:
    return f"postgresql://db/jobs?password={quote(password, safe='')}&sslmode=require"


def mapping_of(password: str) -> str:
    return repr({"host": "db", "password": password, "dbname": "jobs"})


@given(password=passwords, written=st.sampled_from([conninfo_of, url_of, query_of, mapping_of]))
def test_no_well_written_password_survives(password: str, written: object) -> None:
    assert callable(written)
    assert not leaks(redact(f"it failed: {written(password)}"))


@given(password=passwords)
def test_no_password_that_was_put_into_a_url_as_it_is_survives(password: str) -> None:
    url = f"postgresql://me:{password}@db:5432/jobs"
    assert not leaks(redact(f"it failed: {url}", passwords_in(url)))


@given(text=st.text(alphabet=PIECES + "password='\" ://@&?\\*,;", max_size=60))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(password=passwords, written=st.sampled_from([conninfo_of, url_of, query_of]))
def test_the_password_in_a_connection_string_is_found_as_it_is(password: str, written: object) -> None:
    assert callable(written)
    assert password in passwords_in(written(password))


def test_the_pieces_of_a_password_that_a_driver_would_quote_are_found_too() -> None:
    complaint = 'missing "=" after "Zebra" in connection info string'
    assert redact(complaint, passwords_in("password=my Zebra host=db")) == (
        'missing "=" after "***" in connection info string'
    )


def test_of_a_password_that_makes_a_url_malformed_each_piece_is_found() -> None:
    url = "postgresql://me:Zeb/ra@Qux@db/jobs"
    assert {"Zeb/ra@Qux", "Zeb", "ra", "Qux"} <= passwords_in(url)
    assert redact('could not translate host name "Qux"', passwords_in(url)) == 'could not translate host name "***"'


@pytest.mark.parametrize(
    ("conninfo", "found"),
    [
        ("host=db dbname=jobs", set()),
        ("host=db password=ZQZ", {"ZQZ"}),
        ("password='my Zebra' host=db", {"'my Zebra'", "my Zebra"}),
        ("password='Zebra never closed", {"'Zebra never closed", "'Zebra", "never", "closed"}),
    ],
)
def test_nothing_but_the_password_is_taken_for_one(conninfo: str, found: set[str]) -> None:
    """Else harmless words would be cut out of every message."""
    assert passwords_in(conninfo) == found


# --- shown_conninfo ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conninfo", "shown"),
    [
        ("host=db password=ZQX dbname=jobs", "host=db password=*** dbname=jobs"),
        ("host = db  password = 'Z Q'", "host=db password=***"),
        ("host=db options='-c my.token=ZQX'", "host=db options=***"),
        ("host=db password=", "host=db password=***"),
        ("postgresql://me:ZQX@db:5432/jobs", "postgresql://me:***@db:5432/jobs"),
        ("postgresql://me@a:1,b:2/jobs?sslmode=require", "postgresql://me@a:1,b:2/jobs?sslmode=require"),
        ("postgres://[::1]:5432/jobs?password=ZQX", "postgres://[::1]:5432/jobs?password=***"),
        ("postgresql:///jobs", "postgresql:///jobs"),
        ("embedded", "embedded"),
    ],
)
def test_a_connection_string_shows_where_it_leads_and_no_secret(conninfo: str, shown: str) -> None:
    assert shown_conninfo(conninfo) == shown


@pytest.mark.parametrize(
    "conninfo",
    [
        "password=my Zebra host=db",
        "host=db ZQX",
        "host=db zebra=ZQX",
        "ZQX",
        "postgresql://me:Z/Q@db/jobs",
        "postgresql://me:12?a=Z@db",
        "postgresql://me:Z@Q@db/jobs",
        "postgresql://db/jobs?ZQX",
        "postgresql://db/jobs?host",
        "postgresql://db/jobs?password=Z&Q=X",
        "dbname=postgresql://me:ZQX@db/jobs",
    ],
)
def test_a_malformed_connection_string_is_not_shown_at_all(conninfo: str) -> None:
    assert shown_conninfo(conninfo) == "***"


@given(
    password=passwords,
    form=st.sampled_from(
        [
            "host=db password={} dbname=jobs",
            "password={}",
            "host=db password='{}' dbname=jobs",
            "postgresql://me:{}@db:5432/jobs",
            "postgresql://me:{}@db:5432/jobs?sslmode=require",
            "postgresql://db/jobs?password={}&sslmode=require",
        ]
    ),
)
def test_no_password_is_shown_however_wrongly_it_was_put_in(password: str, form: str) -> None:
    assert not leaks(shown_conninfo(form.format(password)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("db", "db"),
        ("::1", "::1"),
        ("me@realm", "me@realm"),
        ("me:ZQX@db", "***"),
        ("postgresql://db/jobs", "***"),
        ("password=ZQX", "***"),
    ],
)
def test_a_name_is_shown_unless_a_login_was_put_into_it(value: str, shown: str) -> None:
    assert shown_value(value) == shown


@pytest.mark.parametrize("after_sec", [0, 0.5])
def test_a_job_may_be_tried_again_at_once(after_sec: float) -> None:
    assert errors.Retry(after_sec).after_sec == after_sec
