"""What `jobsync migrate` does and says."""

from jobsync.api.cluster import open_cluster, schema_sql, update_sql
from jobsync.cli.options import Phase
from jobsync.cli.output import say
from jobsync.cli.shared import say_json
from jobsync.core.errors import InvalidArgument
from jobsync.core.settings import Settings


def migrate(config: Settings, phase: Phase, *, print_sql: bool, from_version: int | None, as_json: bool) -> None:
    """Do one phase and tell what came of it, or print SQL: of the whole schema, or of the first phase."""
    if from_version is not None and not print_sql:
        raise InvalidArgument("--from is for --print: without it the version is read from the tables")
    if print_sql:
        if phase is Phase.POST:
            raise InvalidArgument("--print gives the whole schema, or the first phase: leave --phase out")
        sql = schema_sql(config.appname) if from_version is None else update_sql(from_version, config.appname)
        say_json({"sql": sql}) if as_json else say(sql)
        return
    with open_cluster(config) as cluster:
        changed = cluster.migrate() if phase is Phase.PRE else cluster.finish_migration()
        awaits = cluster.awaits_removal()
    if as_json:
        say_json({"changed": changed, "awaits_post": awaits})
        return
    say(f"the tables {config.prefix}* {_outcome(phase, changed=changed)}")
    if awaits:
        say(
            "what only older programs need is still there: when the last of their workers is gone, "
            f"`jobsync migrate --phase post --appname {config.prefix}` removes it"
        )


def _outcome(phase: Phase, *, changed: bool) -> str:
    if not changed:
        return "were up to date: nothing to do" if phase is Phase.PRE else "have nothing that only older programs need"
    return "are ready" if phase is Phase.PRE else "are rid of what only older programs need"
