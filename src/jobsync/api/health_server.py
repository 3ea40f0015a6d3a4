"""A small HTTP server for probes: one thread of its own, the standard library, no extra.

It answers GET and HEAD of `/health/live` and `/health/ready` with JSON, everything else with 404. It believes nothing
that a client sends but the path.
"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Protocol

CLIENT_SEC = 5.0  # A client that says nothing is not waited for any longer.


class Asked(Protocol):
    """What is told of a node or worker; `Health` is it."""

    @property
    def is_live(self) -> bool:
        """Whether a restart would not help."""

    @property
    def is_ready(self) -> bool:
        """Whether it does its duty."""

    def as_dict(self) -> dict[str, Any]:
        """Give all of it as JSON takes it."""


def answer(health: Asked, path: str) -> tuple[int, dict[str, Any]] | None:
    """Give status and body for `/health/live` or `/health/ready`; None for any other path."""
    match path.partition("?")[0].rstrip("/"):
        case "/health/live":
            return (200, {"status": "alive"}) if health.is_live else (503, {**health.as_dict(), "status": "ended"})
        case "/health/ready":
            return (200 if health.is_ready else 503), health.as_dict()
        case _:
            return None


class HealthServer:
    """Probes answered on one port until `close`."""

    def __init__(
        self, ask: Callable[[], Asked], host: str, port: int, metrics: Callable[[], bytes] | None = None
    ) -> None:
        parts = {"ask": staticmethod(ask), "metrics": staticmethod(metrics) if metrics is not None else None}
        handler = type("Handler", (_Handler,), parts)
        self._server = _Server((host, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="jobsync-health", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # A slow client does not keep the job from leaving.

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a probe that went away in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    ask: ClassVar[Callable[[], Asked]]
    metrics: ClassVar[Callable[[], bytes] | None]
    timeout = CLIENT_SEC
    server_version = "jobsync"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a probe."""
        metrics = type(self).metrics
        if metrics is not None and self.path.partition("?")[0] == "/metrics":
            self._send(200, "text/plain; version=0.0.4; charset=utf-8", metrics())
            return
        found = answer(type(self).ask(), self.path) or (404, {"status": "no such path", "paths": list(_PATHS)})
        self._send(found[0], "application/json", json.dumps(found[1]).encode())

    def _send(self, status: int, kind: str, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, *_: object) -> None:
        """Probes are no news."""


_PATHS = ("/health/live", "/health/ready")
