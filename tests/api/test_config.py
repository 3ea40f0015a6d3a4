"""Where settings come from: which source decides each field, and when a job stands alone."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobsync
from jobsync import Job
from jobsync.api.compat import EnvironmentConfig, told_apart, with_config
from jobsync.api.config import FROM_ENVIRONMENT, CoordinationConfig, Resolved
from jobsync.api.config import resolve as resolve_layers
from jobsync.core.errors import InvalidArgument, InvalidSettings
from jobsync.core.settings import VARIABLES, Settings

NO_VARIABLES: dict[str, str] = {}


def config_of(*, coordination: object = None, sql: object = None) -> SimpleNamespace:
    sections = {"coordination": coordination, "sql": sql}
    return SimpleNamespace(sync=SimpleNamespace(**{name: each for name, each in sections.items() if each is not None}))


def resolve(coordination_config: Any, config: object, environ: dict[str, str]) -> Resolved:
    return resolve_layers(with_config(coordination_config, config), environ)


def stands_alone(coordination_config: Any, config: object, environ: dict[str, str]) -> bool:
    return not resolve(coordination_config, config, environ).coordinated


def settled(coordination_config: Any, config: object = None, environ: dict[str, str] = NO_VARIABLES) -> Settings:
    resolved = resolve(coordination_config, config, environ)
    assert resolved.coordinated, "the job would stand alone"
    return resolved.settings


# --- CoordinationConfig --------------------------------------------------------------------------


def test_a_coordination_config_is_settings_under_its_own_name() -> None:
    config = CoordinationConfig(host="db", password="Zebra")
    assert isinstance(config, Settings)
    assert repr(config) == "CoordinationConfig(host='db', password='***')"
    assert config.given == {"host", "password"}


def test_from_env_takes_what_the_environment_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SYNC_SQL_HOST", "db")
    monkeypatch.setenv("SYNC_HEARTBEAT_TIMEOUT", "30")
    config = CoordinationConfig.from_env()
    assert type(config) is CoordinationConfig
    assert config == CoordinationConfig(host="db", heartbeat_timeout_sec=30)
    assert config.given == {"host", "heartbeat_timeout_sec"}


def test_from_env_names_the_variable_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_SQL_PORT", "five")
    with pytest.raises(InvalidSettings, match=r"^SYNC_SQL_PORT='five'"):
        CoordinationConfig.from_env()


# --- when a job stands alone ---------------------------------------------------------------------


def test_a_coordination_config_of_none_stands_alone_whatever_else_says() -> None:
    assert stands_alone(None, config_of(sql=SimpleNamespace(host="db")), {"SYNC_SQL_HOST": "db"})


def test_with_nothing_configured_a_job_stands_alone() -> None:
    assert stands_alone(FROM_ENVIRONMENT, None, {"PATH": "/bin", "SYNC_SQL_HOST": ""})


def test_a_config_object_alone_asks_for_coordination() -> None:
    assert settled(FROM_ENVIRONMENT, SimpleNamespace()) == Settings()


@pytest.mark.parametrize(("variable", "text"), [("SYNC_SQL_DATABASE", "jobs"), ("SYNC_COORDINATION_ENABLED", "true")])
def test_a_variable_alone_asks_for_coordination(variable: str, text: str) -> None:
    assert settled(FROM_ENVIRONMENT, None, {variable: text}).enabled


@pytest.mark.parametrize(
    ("coordination_config", "config", "environ"),
    [
        (CoordinationConfig(enabled=False), None, {"SYNC_COORDINATION_ENABLED": "true"}),
        (CoordinationConfig(), config_of(coordination=SimpleNamespace(enabled=False)), {}),
        (CoordinationConfig(), None, {"SYNC_COORDINATION_ENABLED": "false"}),
        (FROM_ENVIRONMENT, SimpleNamespace(), {"SYNC_COORDINATION_ENABLED": "false"}),
    ],
)
def test_a_job_that_is_not_enabled_after_the_merge_stands_alone(
    coordination_config: Any, config: object, environ: dict[str, str]
) -> None:
    assert stands_alone(coordination_config, config, environ)


def test_enabled_given_in_code_wins_over_a_variable_that_disables() -> None:
    assert settled(CoordinationConfig(enabled=True), None, {"SYNC_COORDINATION_ENABLED": "false"}).enabled


@pytest.mark.parametrize("wrong", [{"host": "db"}, "postgresql://db/jobs", 5, True])
def test_a_coordination_config_of_another_type_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidSettings, match="pass a CoordinationConfig, or None"):
        resolve(wrong, None, {})


def test_the_refusal_of_a_dsn_in_its_place_does_not_quote_it() -> None:
    with pytest.raises(InvalidSettings) as caught:
        resolve("postgresql://me:Zebra@db", None, {})
    assert "Zebra" not in str(caught.value)


# --- who decides a field -------------------------------------------------------------------------


def test_each_source_decides_the_fields_that_no_source_above_it_gives() -> None:
    settings = settled(
        CoordinationConfig(port=1),
        config_of(coordination=SimpleNamespace(port=2, total_tokens=2), sql=SimpleNamespace(port=3, user="third")),
        {
            "SYNC_SQL_PORT": "4",
            "SYNC_TOTAL_TOKENS": "4",
            "SYNC_SQL_USERNAME": "fourth",
            "SYNC_MINIMUM_NODES": "4",
        },
    )
    assert (settings.port, settings.total_tokens, settings.user, settings.minimum_nodes) == (1, 2, "third", 4)
    assert settings.dbname == "jobsync"
    assert settings.given == {"port", "total_tokens", "user", "minimum_nodes"}


def test_a_field_given_in_code_wins_even_where_it_equals_the_default() -> None:
    assert settled(CoordinationConfig(host="localhost"), None, {"SYNC_SQL_HOST": "db"}).host == "localhost"


def test_a_field_that_only_has_its_default_in_code_does_not_win() -> None:
    assert settled(CoordinationConfig(port=6543), None, {"SYNC_SQL_HOST": "db"}).host == "db"


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "port": st.integers(1, 65_535),
    "user": st.sampled_from(["postgres", "me", "you"]),
    "total_tokens": st.integers(1, 1_000_000),
    "heartbeat_timeout_sec": st.sampled_from([15, 30, 12.5]),
    "minimum_nodes": st.integers(1, 9),
}
layer = st.fixed_dictionaries({}, optional=VALUES)


@given(code=layer, coordination=layer, sql=layer, environment=layer)
def test_precedence_is_field_by_field(
    code: dict[str, Any], coordination: dict[str, Any], sql: dict[str, Any], environment: dict[str, Any]
) -> None:
    variable_of = {name: variable for variable, name in VARIABLES.items()}
    settings = settled(
        CoordinationConfig(**code),
        config_of(coordination=SimpleNamespace(**coordination), sql=SimpleNamespace(**sql)),
        {variable_of[name]: str(value) for name, value in environment.items()},
    )
    connection_only = {name: value for name, value in sql.items() if name in {"port", "user"}}
    layers = (code, coordination, connection_only, environment)
    for name in VALUES:
        given_by = [layer[name] for layer in layers if name in layer]
        assert getattr(settings, name) == (given_by[0] if given_by else getattr(Settings, name))


@pytest.mark.parametrize("naming", [{"host": "code"}, {"dbname": "code"}])
def test_naming_a_server_in_code_hides_a_dsn_that_was_left_in_the_environment(naming: dict[str, Any]) -> None:
    assert settled(CoordinationConfig(**naming), None, {"SYNC_DSN": "host=old"}).dsn is None


def test_a_server_in_the_config_object_hides_the_dsn_of_the_environment_but_not_the_codes() -> None:
    config = config_of(sql=SimpleNamespace(host="db"))
    assert settled(FROM_ENVIRONMENT, config, {"SYNC_DSN": "host=old"}).dsn is None
    assert settled(CoordinationConfig(dsn="host=code"), config, {}).dsn == "host=code"


def test_a_password_alone_does_not_hide_the_dsn_of_the_environment() -> None:
    assert settled(CoordinationConfig(password="Zebra"), None, {"SYNC_DSN": "host=db"}).dsn == "host=db"


def test_within_one_source_the_dsn_stands_beside_the_server() -> None:
    environ = {"SYNC_DSN": "host=db", "SYNC_SQL_HOST": "other"}
    assert settled(FROM_ENVIRONMENT, None, environ).dsn == "host=db"


def test_the_session_dsn_of_the_environment_is_never_hidden() -> None:
    settings = settled(CoordinationConfig(host="pooler"), None, {"SYNC_SESSION_DSN": "host=direct"})
    assert settings.session_dsn == "host=direct"


def test_fields_that_do_not_go_together_are_refused_after_the_merge() -> None:
    with pytest.raises(InvalidSettings, match="above twice"):
        resolve(CoordinationConfig(heartbeat_timeout_sec=11), None, {"SYNC_HEARTBEAT_INTERVAL": "6"})


# --- config objects ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name"), [("dbname", "dbname"), ("database", "dbname"), ("user", "user"), ("username", "user")]
)
def test_database_and_user_go_by_either_name(key: str, name: str) -> None:
    settings = settled(FROM_ENVIRONMENT, config_of(sql=SimpleNamespace(**{key: "mine"})))
    assert getattr(settings, name) == "mine"


def test_missing_sections_and_attributes_fall_through() -> None:
    for config in (SimpleNamespace(sync=None), SimpleNamespace(other=1), config_of(sql=SimpleNamespace())):
        assert settled(FROM_ENVIRONMENT, config, {"SYNC_SQL_HOST": "db"}).host == "db"


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_attribute_that_is_none_or_empty_falls_through(nothing: object) -> None:
    config = config_of(sql=SimpleNamespace(host=nothing, password=nothing))
    settings = settled(FROM_ENVIRONMENT, config, {"SYNC_SQL_HOST": "db"})
    assert (settings.host, settings.password) == ("db", "postgres")


def test_none_is_a_value_where_it_switches_something_off() -> None:
    config = config_of(coordination=SimpleNamespace(session_lease_sec=None))
    assert settled(FROM_ENVIRONMENT, config).session_lease_sec is None


def test_text_in_a_config_object_is_read_as_in_the_environment() -> None:
    config = config_of(sql=SimpleNamespace(port="6543"), coordination=SimpleNamespace(locks_enabled="off"))
    settings = settled(FROM_ENVIRONMENT, config)
    assert (settings.port, settings.locks_enabled) == (6543, False)


@pytest.mark.parametrize("port", ["five", 0, 1.5])
def test_a_bad_value_in_a_config_object_is_named_by_its_place(port: object) -> None:
    with pytest.raises(InvalidSettings, match=r"^config\.sync\.sql\.port="):
        resolve(FROM_ENVIRONMENT, config_of(sql=SimpleNamespace(port=port)), {})


def test_sections_may_be_mappings() -> None:
    config = {"sync": {"sql": {"host": "db", "database": "jobs"}, "coordination": {"session_lease_sec": None}}}
    settings = settled(FROM_ENVIRONMENT, config)
    assert (settings.host, settings.dbname, settings.session_lease_sec) == ("db", "jobs", None)
    assert settings.given == {"host", "dbname", "session_lease_sec"}


def test_a_section_may_be_a_coordination_config_and_gives_only_what_it_was_given() -> None:
    config = config_of(coordination=CoordinationConfig(total_tokens=500))
    assert settled(FROM_ENVIRONMENT, config, {"SYNC_MINIMUM_NODES": "3"}) == Settings(total_tokens=500, minimum_nodes=3)


def test_a_coordination_config_in_the_place_of_the_config_object_counts_as_one() -> None:
    assert settled(FROM_ENVIRONMENT, CoordinationConfig(total_tokens=500)) == Settings(total_tokens=500)


def test_equal_sources_settle_to_equal_settings() -> None:
    sources: tuple[Any, ...] = (
        CoordinationConfig(host="db"),
        config_of(sql=SimpleNamespace(user="me")),
        {"SYNC_TOTAL_TOKENS": "9"},
    )
    assert settled(*sources) == settled(*sources)


@pytest.mark.parametrize("wrong", ["prod", b"prod", 5, True, ["host"], ("host",), {"host"}])
def test_what_can_be_no_config_object_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidArgument, match="config is a"):
        told_apart("production", wrong)


def test_a_config_object_may_take_the_place_of_the_environment_but_not_beside_another() -> None:
    config = config_of()
    assert told_apart(config, None) == (None, config)
    assert told_apart("production", config) == ("production", config)
    with pytest.raises(InvalidArgument, match="name of an environment"):
        told_apart(config, config)


def test_a_job_alone_has_the_numbers_of_its_config_object() -> None:
    config = config_of(coordination=SimpleNamespace(enabled=False, total_tokens=50))
    with Job("w1", config) as job:
        assert len(job.my_tokens) == 50


# --- the environment as a config object ----------------------------------------------------------


def test_the_environments_config_has_the_shape_of_the_guide() -> None:
    config = EnvironmentConfig({"SYNC_SQL_HOST": "db", "SYNC_SQL_DATABASE": "jobs", "SYNC_SQL_USERNAME": "me"})
    assert config.sync.sql.host == "db"
    assert config.sync.sql.database == config.sync.sql.dbname == "jobs"
    assert config.sync.sql.username == config.sync.sql.user == "me"
    assert config.sync.sql.port == 5432
    assert config.sync.sql.appname == "sync_"
    assert config.sync.coordination.total_tokens == 10_000


def test_the_environment_is_read_when_asked_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    config = jobsync.config
    monkeypatch.setenv("SYNC_SQL_HOST", "first")
    assert config.sync.sql.host == "first"
    monkeypatch.setenv("SYNC_SQL_HOST", "second")
    assert config.sync.sql.host == "second"


def test_the_environments_config_gives_only_what_variables_give() -> None:
    environ = {"SYNC_DSN": "host=db", "SYNC_TOTAL_TOKENS": "500"}
    assert settled(FROM_ENVIRONMENT, EnvironmentConfig(environ), environ).given == {"dsn", "total_tokens"}


def test_the_environments_config_asks_for_coordination_even_when_no_variable_is_set() -> None:
    assert settled(FROM_ENVIRONMENT, EnvironmentConfig({})) == Settings()


def test_a_setting_that_does_not_exist_is_no_attribute() -> None:
    config = EnvironmentConfig({})
    assert not hasattr(config.sync.sql, "total_tokens")
    with pytest.raises(AttributeError, match="no setting 'heartbeat'"):
        _ = config.sync.coordination.heartbeat


@pytest.mark.parametrize("attribute", ["host", "more"])
def test_the_environments_config_is_read_only(attribute: str) -> None:
    config = EnvironmentConfig({})
    with pytest.raises(AttributeError):
        setattr(config.sync.sql, attribute, "db")


def test_the_environments_config_survives_a_copy() -> None:
    config = EnvironmentConfig({"SYNC_SQL_HOST": "db"})
    assert copy.deepcopy(config).sync.sql.host == "db"
    assert copy.deepcopy(config.sync).sql.host == "db"


def test_the_environments_config_lists_its_settings() -> None:
    assert {"host", "database", "password"} <= set(dir(EnvironmentConfig({}).sync.sql))


def test_the_environments_config_shows_no_password() -> None:
    config = EnvironmentConfig({"SYNC_SQL_PASSWORD": "Zebra", "SYNC_DSN": "password=Zebra", "SYNC_SQL_HOST": "db"})
    for shown in (repr(config), str(config.sync), f"{config.sync.sql}", repr(config.sync.coordination)):
        assert "Zebra" not in shown
        assert "host='db'" in shown
