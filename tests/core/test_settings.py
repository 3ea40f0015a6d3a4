"""Settings: defaults, refusals, doubts, merging, what is printed, and the protocol's numbers."""

import copy
import inspect
import math
import pickle
from dataclasses import FrozenInstanceError, replace
from dataclasses import fields as fields_of
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jobsync.core.errors import InvalidArgument, InvalidSettings, redact
from jobsync.core.hashing import HASH_FUNCTIONS
from jobsync.core.setting_rules import RULES, accepts_none
from jobsync.core.settings import (
    VARIABLES,
    Settings,
    Timing,
    observer_wait_sec,
    recommended_tokens,
    session_lease_for,
    settings_from_variables,
)

DEFAULTS: dict[str, object] = {
    "enabled": True,
    "host": "localhost",
    "port": 5432,
    "dbname": "jobsync",
    "user": "postgres",
    "password": "postgres",
    "dsn": None,
    "appname": "sync_",
    "total_tokens": 10_000,
    "minimum_nodes": 1,
    "heartbeat_interval_sec": 5,
    "heartbeat_timeout_sec": 15,
    "rebalance_check_interval_sec": 30,
    "dead_node_check_interval_sec": 10,
    "token_refresh_initial_interval_sec": 5,
    "token_refresh_steady_interval_sec": 30,
    "locks_enabled": True,
    "leader_lock_timeout_sec": 30,
    "health_check_interval_sec": 30,
    "token_distribution_timeout_sec": 60,
    "hash_function": "double_sha256",
    "handover_timeout_sec": None,
    "session_lease_sec": 0.6,
    "session_dsn": None,
    "claim_retention_days": 7,
    "audit_retention_days": None,
    "rebalance_retention_days": 30,
    "dead_node_retention_days": 1,
    "tracing": False,
}
SECONDS = [name for name in DEFAULTS if name.endswith("_sec")]
DAYS = [name for name in DEFAULTS if name.endswith("_days")]

# What may be chosen for each field in any combination: the timings are those that go together.
CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "enabled": st.booleans(),
    "host": st.sampled_from(["localhost", "db", "/run/postgresql"]),
    "port": st.integers(1, 65_535),
    "password": st.sampled_from(["postgres", "", "other"]),
    "dsn": st.sampled_from([None, "host=elsewhere"]),
    "total_tokens": st.integers(1, 1_000_000),
    "heartbeat_interval_sec": st.sampled_from([5, 1, 0.5]),
    "heartbeat_timeout_sec": st.sampled_from([15, 30, 10.5]),
    "session_lease_sec": st.sampled_from([None, 0.6, 2]),
    "locks_enabled": st.booleans(),
    "audit_retention_days": st.sampled_from([None, 30]),
}
layers_of_given = st.lists(st.fixed_dictionaries({}, optional=CHOICES), max_size=4)


# --- fields and defaults -------------------------------------------------------------------------


def test_the_fields_and_their_defaults_are_the_contracts() -> None:
    assert {each.name: each.default for each in fields_of(Settings)} == DEFAULTS


def test_every_field_has_a_rule_and_every_rule_a_field() -> None:
    assert list(RULES) == [each.name for each in fields_of(Settings)]


def test_fields_are_given_by_keyword_only() -> None:
    with pytest.raises(TypeError):
        Settings("localhost")  # type: ignore[call-arg, arg-type]


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="heartbeat_interval"):
        Settings(heartbeat_interval=5)  # type: ignore[call-arg]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_help_shows_the_fields_and_nothing_private() -> None:
    assert list(inspect.signature(Settings).parameters) == list(DEFAULTS)


# --- what was given ------------------------------------------------------------------------------


def test_a_field_counts_as_given_even_when_it_equals_its_default() -> None:
    assert Settings(port=5432, dsn=None).given == {"port", "dsn"}
    assert Settings().given == frozenset()


def test_what_was_given_makes_no_difference_between_equal_settings() -> None:
    assert Settings(port=5432) == Settings()
    assert hash(Settings(port=5432)) == hash(Settings())
    assert Settings(port=5433) != Settings()


@pytest.mark.parametrize("twin_of", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_and_pickles_keep_values_and_what_was_given(twin_of: Any) -> None:
    settings = Settings(port=5432, password="secret", heartbeat_timeout_sec=30)
    twin = twin_of(settings)
    assert twin == settings
    assert twin.given == settings.given


def test_replace_keeps_what_was_given_and_adds_what_it_changed() -> None:
    settings = replace(Settings(port=5432), minimum_nodes=3)
    assert settings.minimum_nodes == 3
    assert settings.given == {"port", "minimum_nodes"}
    assert replace(settings, port=5433).given == {"port", "minimum_nodes"}


def test_replace_checks_as_building_does() -> None:
    with pytest.raises(InvalidSettings, match="port=0"):
        replace(Settings(), port=0)


def test_the_given_values_are_a_layer_that_builds_the_same_settings() -> None:
    settings = Settings(port=5432, dbname="jobs")
    assert settings.given_values() == {"port": 5432, "dbname": "jobs"}
    assert Settings.merged(settings.given_values()) == settings


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval_sec", "timeout_sec"),
    [(3, 9), (3, 10), (3, 15), (5, 15), (5, 30), (10, 30), (0.5, 1.5), (1, 2.01)],
)
def test_every_pair_of_beat_and_timeout_that_the_guides_print_is_accepted(
    interval_sec: float, timeout_sec: float
) -> None:
    settings = Settings(heartbeat_interval_sec=interval_sec, heartbeat_timeout_sec=timeout_sec)
    assert settings.heartbeat_timeout_sec == timeout_sec


@pytest.mark.parametrize(
    "printed",
    [
        {
            "total_tokens": 5000,
            "heartbeat_interval_sec": 10,
            "heartbeat_timeout_sec": 30,
            "rebalance_check_interval_sec": 60,
            "dead_node_check_interval_sec": 20,
            "token_refresh_initial_interval_sec": 2,
            "token_refresh_steady_interval_sec": 60,
            "locks_enabled": True,
            "leader_lock_timeout_sec": 60,
            "health_check_interval_sec": 60,
        },
        {
            "total_tokens": 50_000,
            "heartbeat_interval_sec": 3,
            "heartbeat_timeout_sec": 10,
            "rebalance_check_interval_sec": 15,
            "dead_node_check_interval_sec": 5,
            "token_refresh_steady_interval_sec": 10,
        },
        {
            "heartbeat_interval_sec": 3,
            "heartbeat_timeout_sec": 9,
            "dead_node_check_interval_sec": 5,
            "rebalance_check_interval_sec": 15,
            "token_refresh_initial_interval_sec": 3,
            "token_refresh_steady_interval_sec": 10,
        },
        {"heartbeat_timeout_sec": 30, "rebalance_check_interval_sec": 60},
        {"appname": "myapp_", "minimum_nodes": 3},
    ],
)
def test_what_the_guides_print_is_accepted_without_a_doubt(printed: dict[str, Any]) -> None:
    assert Settings(**printed).doubts() == ()


@pytest.mark.parametrize(("interval_sec", "timeout_sec"), [(5, 10), (5, 9.9), (10, 15), (0.5, 1.0)])
def test_a_timeout_not_above_twice_its_interval_is_refused(interval_sec: float, timeout_sec: float) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings(heartbeat_interval_sec=interval_sec, heartbeat_timeout_sec=timeout_sec)
    assert f"heartbeat_timeout_sec={timeout_sec:g}" in str(caught.value)
    assert f"give {3 * interval_sec:g} or more" in str(caught.value)


@pytest.mark.parametrize("lease_sec", [15, 20])
def test_a_session_lease_not_below_the_heartbeat_timeout_is_refused(lease_sec: float) -> None:
    with pytest.raises(InvalidSettings, match=r"session_lease_sec.*below heartbeat_timeout_sec=15"):
        Settings(session_lease_sec=lease_sec)


@pytest.mark.parametrize("name", SECONDS + DAYS)
@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan, math.inf, True, "5", Decimal(5), 1e12])
def test_a_duration_is_a_positive_finite_number(name: str, value: Any) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name}="):
        Settings(**{name: value})


@pytest.mark.parametrize(
    "name", [name for name in SECONDS if name not in {"handover_timeout_sec", "session_lease_sec"}]
)
def test_a_duration_that_the_protocol_needs_is_not_none(name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name}=None"):
        Settings(**{name: None})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*DAYS, "handover_timeout_sec", "session_lease_sec", "dsn", "session_dsn"])
def test_what_can_be_switched_off_takes_none(name: str) -> None:
    assert getattr(Settings(**{name: None}), name) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 0),
        ("port", 65_536),
        ("port", "5432"),
        ("port", 5432.0),
        ("port", True),
        ("total_tokens", 0),
        ("total_tokens", 1_000_001),
        ("total_tokens", 5000.0),
        ("minimum_nodes", 0),
        ("minimum_nodes", -1),
        ("enabled", 1),
        ("enabled", "true"),
        ("locks_enabled", None),
        ("hash_function", "sha1"),
        ("hash_function", "SHA256"),
        ("hash_function", None),
        ("hash_function", []),
        ("host", ""),
        ("host", None),
        ("host", b"db"),
        ("host", "d\0b"),
        ("dbname", "\0"),
        ("user", "\udc80"),
        ("password", None),
        ("password", "a\0b"),
        ("dsn", ""),
        ("dsn", "host=\0"),
        ("dsn", 5),
        ("session_dsn", b"host=db"),
        ("appname", ""),
        ("appname", "1sync_"),
        ("appname", "my-app_"),
        ("appname", "my app_"),
        ("appname", 'x"; DROP TABLE y; --'),
        ("appname", "größe_"),
        ("appname", "a" * 41),
        ("appname", "sync_\n"),
        ("appname", None),
    ],
)
def test_a_value_that_a_field_may_not_have_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidSettings, match=f"^{name}=") as caught:
        Settings(**{name: value})
    assert "must be" in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 1),
        ("port", 65_535),
        ("total_tokens", 1),
        ("total_tokens", 1_000_000),
        ("password", ""),
        ("password", "größe \\'"),
        ("appname", "a" * 40),
        ("appname", "_"),
        ("appname", "App7_"),
        ("session_lease_sec", 14.9),
        ("heartbeat_interval_sec", 0.25),
        ("claim_retention_days", 0.5),
        ("dsn", "embedded"),
        *(("hash_function", name) for name in HASH_FUNCTIONS),
    ],
)
def test_the_limits_themselves_are_accepted(name: str, value: Any) -> None:
    assert getattr(Settings(**{name: value}), name) == value


@pytest.mark.parametrize("name", ["password", "dsn", "session_dsn"])
@pytest.mark.parametrize("value", ["Zebra\0", b"password=Zebra", ["Zebra"]])
def test_a_refused_secret_is_not_quoted(name: str, value: Any) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings(**{name: value})
    assert "Zebra" not in str(caught.value)


# --- doubts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("doubtful", "said"),
    [
        ({"heartbeat_interval_sec": 6}, "above a third of heartbeat_timeout_sec=15"),
        ({"handover_timeout_sec": 15}, "handover_timeout_sec=15 is not below"),
        ({"session_lease_sec": 8}, "session_lease_sec=8 is above half"),
        ({"token_distribution_timeout_sec": 14}, "token_distribution_timeout_sec=14 is below"),
        ({"dead_node_check_interval_sec": 16}, "dead_node_check_interval_sec=16 is above"),
        (
            {"session_lease_sec": None, "health_check_interval_sec": 5},
            "health_check_interval_sec=5 is not above",
        ),
        ({"dsn": "host=db", "host": "db", "user": "me"}, "dsn is given and wins: host, user have no effect"),
    ],
)
def test_a_doubtful_setting_is_accepted_and_said_in_one_sentence(doubtful: dict[str, Any], said: str) -> None:
    [doubt] = Settings(**doubtful).doubts()
    assert said in doubt


@pytest.mark.parametrize(
    "sound",
    [
        {},
        {
            "heartbeat_interval_sec": 0.1,
            "heartbeat_timeout_sec": 0.3,
            "session_lease_sec": 0.1,
            "dead_node_check_interval_sec": 0.1,
        },
        {"handover_timeout_sec": 14.9},
        {"session_lease_sec": 7.5},
        {"token_distribution_timeout_sec": 15},
        {"dead_node_check_interval_sec": 15},
        {"session_lease_sec": None},
        {"health_check_interval_sec": 5},
        {"dsn": "host=db"},
    ],
)
def test_a_sound_setting_raises_no_doubt(sound: dict[str, Any]) -> None:
    assert Settings(**sound).doubts() == ()


def test_where_no_dsn_is_given_its_parts_have_their_effect() -> None:
    assert Settings(host="db", password="Quagga").doubts() == ()


def test_none_is_a_value_of_the_fields_that_can_be_switched_off_alone() -> None:
    switched_off = {name for name in RULES if accepts_none(name)}
    assert switched_off == {name for name in RULES if RULES[name].holds(None)}
    assert {"dsn", "session_lease_sec", "claim_retention_days"} <= switched_off


def test_a_doubt_about_a_dsn_does_not_quote_it() -> None:
    [doubt] = Settings(dsn="host=db password=Zebra", password="Quagga").doubts()
    assert "Zebra" not in doubt
    assert "Quagga" not in doubt


# --- what is printed -----------------------------------------------------------------------------


def test_printing_shows_what_was_given() -> None:
    assert repr(Settings(host="db", port=5432)) == "Settings(host='db', port=5432)"
    assert str(Settings(password="Zebra")) == "Settings(password='***')"
    assert repr(Settings(dsn=None)) == "Settings(dsn=None)"


@given(
    password=st.text("ZQX'\"\\ @/:&=#?%é", min_size=1),
    field=st.sampled_from(["password", "dsn", "session_dsn", "url", "host", "dbname"]),
)
def test_no_fragment_of_a_password_is_ever_printed(password: str, field: str) -> None:
    assume(any(piece in password for piece in "ZQX"))
    given_values: dict[str, Any] = {
        "password": {"password": password},
        "dsn": {"dsn": f"host=db password={password} dbname=jobs"},
        "session_dsn": {"session_dsn": f"host=db password='{password}'"},
        "url": {"dsn": f"postgresql://me:{password}@db/jobs"},
        "host": {"host": f"postgresql://me:{password}@db/jobs"},
        "dbname": {"dbname": f"password={password}"},
    }[field]
    settings = Settings(**given_values)
    for shown in (repr(settings), str(settings), f"{settings}", " ".join(settings.doubts())):
        assert not any(piece in shown for piece in "ZQX")


def test_the_secrets_are_all_passwords_wherever_they_stand() -> None:
    settings = Settings(
        password="Zebra", dsn="postgresql://me:Qua%40gga@db", session_dsn="password='O\\'kapi'", host="db"
    )
    complaint = redact("Zebra Qua%40gga Qua@gga O'kapi db", settings.secrets)
    assert complaint == "*** *** *** *** db"


def test_the_documented_default_password_is_no_secret() -> None:
    assert Settings().secrets == frozenset()
    assert Settings(password="").secrets == frozenset()


# --- derived values ------------------------------------------------------------------------------


def test_the_prefix_is_what_postgresql_makes_of_it() -> None:
    assert Settings(appname="MyApp_").prefix == "myapp_"


@pytest.mark.parametrize(
    ("timeout_sec", "handover_sec"),
    [(15, 10), (30, 10), (11, 10), (9, 8), (1.5, 0.5), (1.05, 0.1), (0.9, 0.1)],
)
def test_a_hand_over_waits_the_smaller_of_ten_and_the_timeout_less_one(timeout_sec: float, handover_sec: float) -> None:
    settings = Settings(heartbeat_timeout_sec=timeout_sec, heartbeat_interval_sec=timeout_sec / 3)
    assert settings.handover_sec == pytest.approx(handover_sec)


def test_a_hand_over_time_that_is_given_counts_as_it_is() -> None:
    assert Settings(handover_timeout_sec=42).handover_sec == 42


@pytest.mark.parametrize(
    ("tasks", "nodes", "tokens"),
    [
        (0, 0, 10_000),
        (1_000, 50, 10_000),
        (2_500, 2, 25_000),
        (7_500, 10, 75_000),
        (50_000, 50, 500_000),
        (10, 200, 20_000),
        (100_000, 20, 1_000_000),
        (100_001, 20, 1_000_000),
    ],
)
def test_the_recommended_tokens_are_the_guides(tasks: int, nodes: int, tokens: int) -> None:
    assert recommended_tokens(tasks, nodes) == tokens
    assert Settings.recommended_tokens(expected_tasks=tasks, expected_nodes=nodes) == tokens


@pytest.mark.parametrize(("tasks", "nodes"), [(-1, 2), (10, -1), (10.5, 2), (10, "2"), (True, 2), (None, 2)])
def test_recommended_tokens_need_whole_numbers_of_tasks_and_nodes(tasks: Any, nodes: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected_"):
        recommended_tokens(tasks, nodes)


# --- merging -------------------------------------------------------------------------------------


def test_the_first_layer_that_gives_a_field_decides_it() -> None:
    merged = Settings.merged({"port": 5432}, {"port": 6543, "dbname": "jobs"}, {"dbname": "other", "user": "me"})
    assert (merged.port, merged.dbname, merged.user, merged.host) == (5432, "jobs", "me", "localhost")
    assert merged.given == {"port", "dbname", "user"}


@given(layers_of_given)
def test_merging_is_field_by_field_from_the_first_layer_down(layers: list[dict[str, Any]]) -> None:
    merged = Settings.merged(*layers)
    for name, default in DEFAULTS.items():
        given_by = [layer[name] for layer in layers if name in layer]
        assert getattr(merged, name) == (given_by[0] if given_by else default)
    assert merged.given == {name for layer in layers for name in layer}


@given(layers_of_given)
def test_merging_in_two_steps_is_merging_at_once(layers: list[dict[str, Any]]) -> None:
    lower = Settings.merged(*layers[1:])
    assert Settings.merged(*layers[:1], lower.given_values()) == Settings.merged(*layers)


def test_merging_a_field_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidSettings, match=r"no setting heartbeat_interval; did you mean heartbeat_interval_sec\?"):
        Settings.merged({"heartbeat_interval": 5})


def test_merging_checks_the_values_that_are_outvoted_too() -> None:
    with pytest.raises(InvalidSettings, match="port=0"):
        Settings.merged({"port": 1}, {"port": 0})


# --- the environment -----------------------------------------------------------------------------

EXAMPLES = {
    "SYNC_SQL_HOST": ("db", "host", "db"),
    "SYNC_SQL_PORT": (" 6543 ", "port", 6543),
    "SYNC_SQL_DATABASE": ("jobs", "dbname", "jobs"),
    "SYNC_SQL_USERNAME": ("me", "user", "me"),
    "SYNC_SQL_PASSWORD": (" secret ", "password", " secret "),
    "SYNC_SQL_APPNAME": ("my_", "appname", "my_"),
    "SYNC_DSN": ("host=db", "dsn", "host=db"),
    "SYNC_SESSION_DSN": ("host=direct", "session_dsn", "host=direct"),
    "SYNC_COORDINATION_ENABLED": ("false", "enabled", False),
    "SYNC_TOTAL_TOKENS": ("50000", "total_tokens", 50_000),
    "SYNC_MINIMUM_NODES": ("3", "minimum_nodes", 3),
    "SYNC_HEARTBEAT_INTERVAL": ("2.5", "heartbeat_interval_sec", 2.5),
    "SYNC_HEARTBEAT_TIMEOUT": ("9", "heartbeat_timeout_sec", 9),
    "SYNC_REBALANCE_INTERVAL": ("15", "rebalance_check_interval_sec", 15),
    "SYNC_DEAD_NODE_INTERVAL": ("5", "dead_node_check_interval_sec", 5),
    "SYNC_TOKEN_REFRESH_INITIAL": ("2", "token_refresh_initial_interval_sec", 2),
    "SYNC_TOKEN_REFRESH_STEADY": ("10", "token_refresh_steady_interval_sec", 10),
    "SYNC_HASH_FUNCTION": ("sha256", "hash_function", "sha256"),
    "SYNC_TRACING": ("yes", "tracing", True),
}


def test_every_variable_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(VARIABLES)


@pytest.mark.parametrize("variable", EXAMPLES)
def test_each_variable_gives_its_field_and_no_other(variable: str) -> None:
    text, name, value = EXAMPLES[variable]
    assert settings_from_variables({variable: text, "PATH": "/bin"}) == {name: value}


@pytest.mark.parametrize("variable", EXAMPLES)
def test_a_variable_that_is_empty_is_not_given(variable: str) -> None:
    assert settings_from_variables({variable: ""}) == {}


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "Yes", "on", " on "])
def test_truth_may_be_written_in_many_ways(text: str) -> None:
    assert settings_from_variables({"SYNC_COORDINATION_ENABLED": text}) == {"enabled": True}


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "NO", "off"])
def test_so_may_falsehood(text: str) -> None:
    assert settings_from_variables({"SYNC_COORDINATION_ENABLED": text}) == {"enabled": False}


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("SYNC_SQL_PORT", "70000"),
        ("SYNC_SQL_PORT", "five"),
        ("SYNC_TOTAL_TOKENS", "10.5"),
        ("SYNC_HEARTBEAT_INTERVAL", "5s"),
        ("SYNC_HEARTBEAT_TIMEOUT", "nan"),
        ("SYNC_REBALANCE_INTERVAL", "-1"),
        ("SYNC_COORDINATION_ENABLED", "maybe"),
        ("SYNC_HASH_FUNCTION", "sha1"),
        ("SYNC_SQL_APPNAME", "my-app"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, text: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{variable}='{text}' is refused") as caught:
        settings_from_variables({variable: text})
    assert "must be" in str(caught.value)


def test_a_bad_secret_in_a_variable_is_not_quoted() -> None:
    with pytest.raises(InvalidSettings) as caught:
        settings_from_variables({"SYNC_SQL_PASSWORD": "Zebra\udc80"})
    assert "SYNC_SQL_PASSWORD" in str(caught.value)
    assert "Zebra" not in str(caught.value)


# --- the numbers of the protocol -----------------------------------------------------------------


def test_the_default_timing_is_the_protocols() -> None:
    timing = Timing.of(Settings(), session_lease_sec=0.6)
    assert timing.row_lease_sec == 14.5
    assert timing.session_lease_sec == 0.6
    assert timing.ping_every_sec == pytest.approx(0.2)
    assert timing.watch_every_sec == pytest.approx(0.15)
    assert timing.handover_sec == 10
    assert timing.operation_deadline_sec == 0.6


def test_without_a_session_lease_the_row_lease_sets_the_pace() -> None:
    timing = Timing.of(Settings(), session_lease_sec=None)
    assert timing.session_lease_sec is None
    assert timing.ping_every_sec == math.inf
    assert timing.watch_every_sec == 1.0
    assert timing.operation_deadline_sec == pytest.approx(14.5 / 3)


def test_observers_look_no_less_often_than_asked() -> None:
    eager = Settings(dead_node_check_interval_sec=0.05)
    assert Timing.of(eager, session_lease_sec=None).watch_every_sec == 0.05
    assert Timing.of(eager, session_lease_sec=0.6).watch_every_sec == 0.05


@pytest.mark.parametrize(("timeout_sec", "row_lease_sec"), [(30, 29.5), (15, 14.5), (10, 9.5), (3, 2.85), (1, 0.95)])
def test_the_row_lease_is_the_timeout_less_a_margin(timeout_sec: float, row_lease_sec: float) -> None:
    settings = Settings(heartbeat_timeout_sec=timeout_sec, heartbeat_interval_sec=timeout_sec / 3)
    assert Timing.of(settings, session_lease_sec=None).row_lease_sec == pytest.approx(row_lease_sec)


@given(st.floats(0.5, 200))
def test_an_observer_is_done_within_the_timeout_that_users_chose(timeout_sec: float) -> None:
    settings = Settings(
        heartbeat_timeout_sec=timeout_sec, heartbeat_interval_sec=timeout_sec / 3, session_lease_sec=None
    )
    timing = Timing.of(settings, session_lease_sec=None)
    assert observer_wait_sec(timing.row_lease_sec) <= timeout_sec


def test_a_node_beats_as_often_as_the_shortest_of_its_intervals() -> None:
    settings = Settings(
        heartbeat_interval_sec=5,
        dead_node_check_interval_sec=4,
        token_refresh_initial_interval_sec=2,
        token_refresh_steady_interval_sec=3,
    )
    timing = Timing.of(settings, session_lease_sec=None)
    assert [timing.beat_every_sec(age_sec) for age_sec in (0, 299.9, 300, 86_400)] == [2, 2, 3, 3]


@pytest.mark.parametrize("shortest", ["heartbeat_interval_sec", "dead_node_check_interval_sec"])
def test_beats_are_never_slower_than_the_other_intervals_ask(shortest: str) -> None:
    timing = Timing.of(Settings(**{shortest: 1}), session_lease_sec=None)  # type: ignore[arg-type]
    assert timing.beat_every_sec(0) == timing.beat_every_sec(1000) == 1


def test_the_observers_wait_is_the_protocols() -> None:
    assert observer_wait_sec(0.6) == pytest.approx(0.6 * 1.001 / 0.999 + 0.02)
    assert observer_wait_sec(14.5) == pytest.approx(14.549, abs=1e-3)


@given(
    lease_sec=st.floats(0.01, 3600),
    drift_of_holder=st.floats(-0.001, 0.001),
    drift_of_observer=st.floats(-0.001, 0.001),
)
def test_no_drift_within_the_bound_ends_the_wait_before_the_lease(
    lease_sec: float, drift_of_holder: float, drift_of_observer: float
) -> None:
    true_end_of_lease_sec = lease_sec / (1 + drift_of_holder)
    true_end_of_wait_sec = observer_wait_sec(lease_sec) / (1 + drift_of_observer)
    assert true_end_of_wait_sec > true_end_of_lease_sec


@pytest.mark.parametrize(
    ("round_trip_sec", "lease_sec"),
    [(0, 0.6), (0.0003, 0.6), (0.06, 0.6), (0.08, 2.0), (0.1, 2.5), (0.3, 7.5), (0.4, None)],
)
def test_a_slow_database_raises_the_session_lease(round_trip_sec: float, lease_sec: float | None) -> None:
    assert session_lease_for(Settings(), round_trip_sec) == lease_sec


def test_a_session_lease_that_is_switched_off_stays_off() -> None:
    assert session_lease_for(Settings(session_lease_sec=None), 0.08) is None


@given(st.floats(0, 10), st.floats(0.05, 14))
def test_a_session_lease_is_never_lowered_and_never_below_ten_round_trips(
    round_trip_sec: float, asked_sec: float
) -> None:
    lease_sec = session_lease_for(Settings(session_lease_sec=asked_sec), round_trip_sec)
    assert lease_sec is None or (lease_sec >= asked_sec and lease_sec >= 10 * round_trip_sec)


@pytest.mark.parametrize("round_trip_sec", [-0.1, math.nan, math.inf, "fast"])
def test_a_round_trip_that_is_no_duration_is_refused(round_trip_sec: Any) -> None:
    with pytest.raises(InvalidArgument, match="round_trip_sec"):
        session_lease_for(Settings(), round_trip_sec)
