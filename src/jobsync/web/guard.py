"""Who may change something, and what a browser is told about these pages.

Changing anything takes the token: as `Authorization: Bearer ...` for programs, or as a session for browsers. A
session's cookie is not readable by scripts and not sent from other sites; what is posted with it must come from these
pages (Origin) and bear their mark (a token in the form that other sites cannot read). A session is in force until it is
logged out or its time is over, in this process alone: a cookie that somebody kept is worth nothing afterwards,
and whoever was let in has to give the token again after a restart.
"""

import hmac
import secrets
import threading
from collections.abc import Mapping
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobsync.api.clock import boot_sec

COOKIE: Final = "jobsync_session"
SESSION_SEC: Final = 12 * 3600
MOST_SESSIONS: Final = 1000  # Only who has the token opens one; a script that logs in for each call drops its oldest.

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Headers:
    """Tells browsers to run nothing but what comes from here, and to show it in nobody's frame."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and put the headers on its answer."""

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with)


class Guard:
    """The token, the sessions that it opened, and the marks of their forms."""

    def __init__(self, auth: str | None) -> None:
        self._auth = auth
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        # Until when each is in force, the oldest first; by its mark, so that no comparison tells of the cookie itself.
        self._sessions: dict[str, float] = {}

    @property
    def is_open(self) -> bool:
        """Whether anybody could be let in: a token was set."""
        return self._auth is not None

    def accepts(self, token: str) -> bool:
        """Tell whether this is the token."""
        return self._auth is not None and _same(token, self._auth)

    def new_session(self) -> str:
        """Open a session, and give its cookie."""
        cookie = secrets.token_urlsafe(32)
        now_sec = boot_sec()
        with self._lock:
            while self._sessions:
                oldest = next(iter(self._sessions))
                if len(self._sessions) < MOST_SESSIONS and self._sessions[oldest] > now_sec:
                    break
                del self._sessions[oldest]
            self._sessions[self._mark("session", cookie)] = now_sec + SESSION_SEC
        return cookie

    def session_of(self, request: Request) -> str | None:
        """Give the session of a browser, if it has one that is in force."""
        cookie = request.cookies.get(COOKIE, "")
        until_sec = self._sessions.get(self._mark("session", cookie), 0.0)
        return cookie if until_sec > boot_sec() else None

    def end_session(self, request: Request) -> None:
        """End the session of a browser, for whoever has its cookie."""
        with self._lock:
            self._sessions.pop(self._mark("session", request.cookies.get(COOKIE, "")), None)

    def form_mark(self, session: str) -> str:
        """Give what a form of this session bears."""
        return self._mark("form", session)

    def refusal(self, request: Request, form: Mapping[str, str]) -> str | None:
        """Say why a request may change nothing; None: it may."""
        if not self.is_open:
            return "this dashboard is read-only: it was started without a token (--auth)"
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return None if self.accepts(token.strip()) else "the token in the Authorization header is not the right one"
        session = self.session_of(request)
        if session is None:
            return "no valid session: log in with the token first"
        if not comes_from_here(request):
            return "the request comes from another site: it was refused"
        if not _same(form.get("mark", ""), self.form_mark(session)):
            return "the form is not from this session: load the page again"
        return None

    def _mark(self, what: str, of: str) -> str:
        return hmac.new(self._secret, f"{what}|{of}".encode("utf-8", "replace"), sha256).hexdigest()


def _same(given: str, right: str) -> bool:
    """Compare in a time that tells nothing; what is given may be any text."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())


def comes_from_here(request: Request) -> bool:
    """Tell whether a browser says that a page of this host made the request; one that says nothing is refused."""
    told = request.headers.get("origin") or request.headers.get("referer") or ""
    return bool(told) and urlsplit(told).netloc == request.headers.get("host", "")
