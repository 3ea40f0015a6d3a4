"""The live page: a fleet and its queue in a browser, drawn by the server, kept fresh by events, steered by token.

Model: one `Poller` reads the fleet at most once a second, in a thread of its own, and only while somebody looks;
however many look, they share what it read. A page is drawn by the server from the latest reading; afterwards its parts
are drawn anew when they changed, once for all viewers, and sent to each as server-sent events. The script only puts
them in their place, so the page is whole without them.

Authoritative: the database, at the instant that the page names. Not promised: that a viewer sees every reading; who is
slow gets the latest. Everything that comes from the database is data: templates escape it, and the browser is told to
run nothing but this package's own script. Whoever has no token can change nothing.

Needs the extra `jobsync[web]`, when `dashboard` is called. It knows the api alone.
"""

from typing import TYPE_CHECKING, Any

from jobsync.core.errors import ExtraMissing

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from jobsync.web.app import dashboard_from_environment

__all__ = ["dashboard", "dashboard_from_environment"]


def dashboard(config: Any = None, *, auth: str | None = None, allowed_hosts: tuple[str, ...] = ("*",)) -> "Starlette":
    """Make the live page of a fleet as an ASGI application, to be run or mounted under any path.

    `config` is a CoordinationConfig; by default the environment decides. With `auth`, whoever gives that token may
    steer: drain, freeze, retry, cancel; without, everything is read-only. `allowed_hosts` are the names under which it
    may be called. Raises ExtraMissing where `jobsync[web]` is not installed, InvalidSettings for bad settings.
    """
    application: Starlette = _app().dashboard(config, auth=auth, allowed_hosts=allowed_hosts)
    return application


def __getattr__(name: str) -> Any:
    if name == "dashboard_from_environment":
        return _app().dashboard_from_environment
    raise AttributeError(f"module 'jobsync.web' has no attribute {name!r}")


def _app() -> Any:
    try:
        from jobsync.web import app  # noqa: PLC0415 - an extra: loaded when it is used
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"starlette", "jinja2", "markupsafe", "anyio"}:
            raise
        raise ExtraMissing(
            f"the live page needs {error.name}, which is not installed: pip install 'jobsync[web]'"
        ) from None
    return app
