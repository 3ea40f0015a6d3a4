"""`jobsync dashboard`: the live page, served by uvicorn.

The command and the page are rooms beside each other: uvicorn is told the page's name, and its settings travel in the
environment, as those of workers do.
"""

import ipaddress
import logging
import os
import secrets
import socket
from importlib import import_module
from typing import Annotated

import typer

from jobsync.api.config import CoordinationConfig
from jobsync.cli.given import config_of, worker_environment
from jobsync.cli.options import Appname, Dsn
from jobsync.cli.output import say
from jobsync.core.errors import ExtraMissing, InvalidArgument

LOCAL_NAMES = "localhost,127.0.0.1,[::1]"
STOP_SEC = 1  # The events of a page never end by themselves: they are cut off, and that is no error.


def dashboard(
    *,
    dsn: Dsn = None,
    appname: Appname = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's see the page.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8090,
    auth: Annotated[
        str | None,
        typer.Option(
            envvar="JOBSYNC_DASHBOARD_TOKEN",
            help="Token that lets a viewer act; 'new' makes one and prints it. [default: read-only]",
        ),
    ] = None,
    allowed_hosts: Annotated[
        str | None, typer.Option(help="Names under which it may be called, with commas between; behind a proxy: yours.")
    ] = None,
) -> None:
    """Serve the live page of the fleet: who owns what, moves, history, the queue. Read-only without a token."""
    options = {"dsn": dsn, "appname": appname}
    config: CoordinationConfig = config_of(options)
    try:
        uvicorn = import_module("uvicorn")
        import_module("jobsync.web.app")
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"the live page needs {error.name}, which is not installed: pip install 'jobsync[web]'"
        ) from None
    if auth == "new":
        auth = secrets.token_urlsafe(18)
        say(f"token: {auth}", err=True)
    os.environ.update(worker_environment(options))
    os.environ["JOBSYNC_DASHBOARD_TOKEN"] = auth or ""
    os.environ["JOBSYNC_DASHBOARD_HOSTS"] = allowed_hosts or (LOCAL_NAMES if _is_local(host) else "*")
    if not _is_local(host):
        say(f"jobsync: whoever reaches {host}:{port} sees the fleet and its jobs' payloads", err=True)
    with _listener(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}/"
        say(f"the fleet {config.prefix}* is on {address}" + ("" if auth else "  (read-only)"))
        logging.getLogger("uvicorn.error").addFilter(lambda record: not record.msg.startswith("Cancel %s running"))
        settings = uvicorn.Config(
            "jobsync.web.app:dashboard_from_environment", factory=True, log_level="warning", access_log=False,
            timeout_graceful_shutdown=STOP_SEC, server_header=False,
        )  # fmt: skip
        uvicorn.Server(settings).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InvalidArgument(f"cannot listen on {host} port {port}: {error}; give another --port or --host") from None


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
