"""The application: its addresses, what each answers, and how the parts stand together."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from jobsync.api.config import CoordinationConfig
from jobsync.api.metrics.fleet import FleetCollector
from jobsync.core.errors import ExtraMissing, JobsyncError
from jobsync.core.log_events import Event, marks
from jobsync.core.queue.stored import STATUSES
from jobsync.web.desk import MOST_KEY, Desk
from jobsync.web.drawing import ASSETS, Drawing, is_same
from jobsync.web.guard import COOKIE, SESSION_SEC, Guard, Headers, comes_from_here
from jobsync.web.kept import Answers
from jobsync.web.lists import NAMES, Asked, asked_of
from jobsync.web.pages import PARTS, Pages
from jobsync.web.poller import Poller

log = logging.getLogger("jobsync.web")

MOST_FORM_BYTES: Final = 20_000
MOST_SAID: Final = 100
KEEP_ALIVE_SEC: Final = 15.0
WRONG_TOKEN_SEC: Final = 1.0
HOSTS_VARIABLE: Final = "JOBSYNC_DASHBOARD_HOSTS"
TOKEN_VARIABLE: Final = "JOBSYNC_DASHBOARD_TOKEN"  # noqa: S105 - the name of a variable

Form = dict[str, str]


def dashboard(config: Any, *, auth: str | None, allowed_hosts: tuple[str, ...]) -> Starlette:
    """Make the application; see `jobsync.web.dashboard`."""
    given = CoordinationConfig.from_env() if config is None else config
    return Dashboard(given, Guard(auth)).application(allowed_hosts)


def dashboard_from_environment() -> Starlette:
    """Make the application of `jobsync dashboard`, whose options travel in the environment."""
    hosts = tuple(os.environ.get(HOSTS_VARIABLE, "*").split(","))
    return dashboard(None, auth=os.environ.get(TOKEN_VARIABLE) or None, allowed_hosts=hosts)


class Dashboard:
    """One fleet's live page."""

    def __init__(self, config: CoordinationConfig, guard: Guard) -> None:
        self._fleet = config.prefix
        self.poller = Poller(config)
        self._desk = Desk(config)
        self._guard = guard
        self._drawing = Drawing()
        self._pages = Pages(self.poller, self._drawing, self._desk)
        self._finds = Answers(self._desk.explain)
        self._said: dict[str, tuple[str, bool]] = {}

    def application(self, allowed_hosts: tuple[str, ...]) -> Starlette:
        """Put the addresses together."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            self._desk.close()

        routes = [
            Route("/", partial(self._live_page, "fleet")),
            Route("/queue", partial(self._live_page, "queue")),
            Route("/jobs", partial(self._list_page, "jobs")),
            Route("/job", partial(self._list_page, "job")),
            Route("/locks", partial(self._list_page, "locks")),
            Route("/find", self._find),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/do", self._do, methods=["POST"]),
            Route("/events", self._events),
            Route("/metrics", self._metrics),
            Route("/fleet.json", self._json),
            Route("/assets/{name}", self._asset),
        ]
        middleware = [Middleware(Headers), Middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts))]
        application = Starlette(routes=routes, middleware=middleware, lifespan=lifespan)
        application.state.dashboard = self
        return application

    # --- pages -----------------------------------------------------------------------------------

    async def _live_page(self, page: str, request: Request) -> Response:
        return await self._page(request, f"{page}.html", page)

    async def _page(
        self,
        request: Request,
        template: str,
        page: str = "other",
        status: int = 200,
        asked: Asked | None = None,
        **given: Any,
    ) -> Response:
        session = self._guard.session_of(request)
        snapshot = await self.poller.fresh()
        parts = await self._pages.parts(page, snapshot, may_act=session is not None, asked=asked, at_once=True)
        if asked is not None and self._pages.lacks(asked):
            status = 404
        said = self._said.pop(request.query_params.get("said", ""), None)
        context = {
            "page": template.removesuffix(".html"),
            "events": _events_of(page, asked),
            "asked": {} if asked is None else dict(zip(NAMES[page], asked[1:], strict=True)),
            "statuses": STATUSES,
            "parts": parts,
            "part_names": PARTS[page],
            "view": snapshot.view,
            "error": snapshot.error,
            "now": None if snapshot.view is None else snapshot.view.read_at,
            "may_act": session is not None,
            "may_log_in": self._guard.is_open,
            "mark": "" if session is None else self._guard.form_mark(session),
            "said": said,
            "back": _back(request),
            "query": dict(request.query_params),
        }
        return HTMLResponse(self._drawing.draw(template, **(context | given)), status)

    async def _list_page(self, page: str, request: Request) -> Response:
        asked = asked_of(page, request.query_params)
        return await self._page(request, f"{page}.html", page, asked=asked)

    async def _find(self, request: Request) -> Response:
        key = request.query_params.get("key", "")
        snapshot = await self.poller.fresh()
        found, error = None, None
        if key and snapshot.error is None:  # Else the page says so already, and nobody waits for that a second time.
            found, error = await self._finds.to(key[: MOST_KEY + 1])
        return await self._page(request, "find.html", key=key[:MOST_KEY], found=found, asked_error=error)

    # --- for programs ----------------------------------------------------------------------------

    async def _json(self, request: Request) -> Response:  # noqa: ARG002 - the shape of an address
        snapshot = await self.poller.fresh()
        view = snapshot.view
        if view is None or snapshot.error is not None:
            return JSONResponse({"error": snapshot.error}, 503)
        return JSONResponse(
            {
                "read_at": view.read_at.isoformat(),
                "healthy": view.is_healthy,
                "leader": view.leader,
                "active_nodes": view.active_nodes,
                "total_tokens": view.total_tokens,
                "tokens_unowned": view.tokens_unowned,
                "tokens_moving": view.tokens_moving,
                "nodes": {node.name: node.tokens for node in view.nodes},
                "waiting": view.queue.waiting,
                "processing": view.queue.processing,
                "failed": view.queue.failed,
            }
        )

    async def _metrics(self, request: Request) -> Response:  # noqa: ARG002
        snapshot = await self.poller.fresh()
        try:
            page = FleetCollector(self._fleet, lambda: snapshot.view if snapshot.error is None else None).page()
        except ExtraMissing as error:
            return Response(f"{error}\n", 501, media_type="text/plain")
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            return Response("no such file\n", 404, media_type="text/plain")
        # The address bears a mark of the content, so whoever has the file need never ask again.
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(self._drawing.assets[name], media_type=ASSETS[name], headers=headers)

    # --- live ------------------------------------------------------------------------------------

    async def _events(self, request: Request) -> Response:
        page = request.query_params.get("page", "other")
        if page not in PARTS:
            return Response("no such page\n", 404, media_type="text/plain")
        may_act = self._guard.session_of(request) is not None
        headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
        asked = asked_of(page, request.query_params) if page in NAMES else None
        stream = self._stream(page, may_act=may_act, asked=asked)
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def _stream(self, page: str, *, may_act: bool, asked: Asked | None = None) -> AsyncIterator[str]:
        """Send the parts that changed, at most once a snapshot; whoever is slow gets the latest."""
        sent: dict[str, str] = {}
        seen = 0
        yield "retry: 2000\n\n"
        with self.poller.watched() as viewer:
            while True:
                snapshot = self.poller.snapshot
                if snapshot.number == seen:
                    if not await viewer.wait(KEEP_ALIVE_SEC):
                        yield ": still here\n\n"
                    continue
                seen = snapshot.number
                parts = await self._pages.parts(page, snapshot, may_act=may_act, asked=asked)
                changed = {name: html for name, html in parts.items() if not is_same(html, sent.get(name))}
                sent = parts
                now = None if snapshot.view is None else snapshot.view.read_at.timestamp()
                news = {"parts": changed, "now": now, "ok": snapshot.error is None, "state": snapshot.state}
                yield f"data: {json.dumps(news)}\n\n"

    # --- changing --------------------------------------------------------------------------------

    async def _login(self, request: Request) -> Response:
        if request.method == "GET" or not self._guard.is_open:
            return await self._page(request, "login.html", wrong=None)
        form = await _form(request)
        if not comes_from_here(request):
            return await self._page(request, "login.html", status=403, wrong="The form came from another site.")
        if not self._guard.accepts(form.get("token", "")):
            log.warning(
                "dashboard: a wrong token from %s",
                _who(request),
                extra=marks(Event.LOGIN_REFUSED, client=_who(request)),
            )
            await asyncio.sleep(WRONG_TOKEN_SEC)
            return await self._page(request, "login.html", status=403, wrong="This is not the token.")
        log.info("dashboard: logged in from %s", _who(request), extra=marks(Event.LOGGED_IN, client=_who(request)))
        response = RedirectResponse("./", 303)
        response.set_cookie(
            COOKIE, self._guard.new_session(), max_age=SESSION_SEC, path=request.scope.get("root_path") or "/",
            httponly=True, samesite="strict", secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    async def _logout(self, request: Request) -> Response:
        response = RedirectResponse("./", 303)
        if comes_from_here(request):
            self._guard.end_session(request)
            response.delete_cookie(COOKIE, path=request.scope.get("root_path") or "/")
        return response

    async def _do(self, request: Request) -> Response:
        form = await _form(request)
        refusal = self._guard.refusal(request, form)
        if refusal is not None:
            log.warning(
                "dashboard: refused an action from %s: %s",
                _who(request),
                refusal,
                extra=marks(Event.ACTION_FORBIDDEN, client=_who(request)),
            )
            return await self._page(request, "refused.html", status=403, why=refusal)
        try:
            act = json.loads(form.get("act", ""))
        except ValueError:
            act = None
        if not isinstance(act, list) or not act:
            return await self._page(request, "refused.html", status=400, why="the form asks for nothing")
        by = f"dashboard {_who(request)}"
        try:
            said = await asyncio.to_thread(self._desk.act, act, minutes=form.get("minutes", ""), by=by)
        except JobsyncError as error:
            log.warning(
                "dashboard: %s from %s was refused: %s",
                act,
                _who(request),
                error,
                extra=marks(Event.ACTION_REFUSED, client=_who(request), act=str(act)),
            )
            said, is_well = str(error), False
        else:
            log.info(
                "dashboard: %s from %s: %s",
                act,
                _who(request),
                said,
                extra=marks(Event.ACTION_DONE, client=_who(request), act=str(act)),
            )
            is_well = True
        self.poller.hurry()
        self._pages.changed()
        self._finds.changed()
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse({"said": said, "ok": is_well}, 200 if is_well else 409)
        return RedirectResponse(self._saying(said, is_well=is_well, back=form.get("back", "")), 303)

    def _saying(self, text: str, *, is_well: bool, back: str) -> str:
        """Keep a sentence for the page that is shown next, and give its address."""
        while len(self._said) >= MOST_SAID:
            self._said.pop(next(iter(self._said)))
        key = os.urandom(8).hex()
        self._said[key] = (text, is_well)
        place = back if back.split("?", maxsplit=1)[0] in {"queue", "jobs", "job", "locks", "find"} else "./"
        return f"{place}{'&' if '?' in place else '?'}said={key}"


async def _form(request: Request) -> Form:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_FORM_BYTES:
            return {}
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def _back(request: Request) -> str:
    """Give the address of this page, as seen from beside it, without what was said on it."""
    path = request.url.path.rpartition("/")[2]
    query = "&".join(part for part in request.url.query.split("&") if part and not part.startswith("said="))
    return f"{path}?{query}" if query else path


def _who(request: Request) -> str:
    return request.client.host if request.client is not None else "somebody"


def _events_of(page: str, asked: Asked | None) -> str:
    """Give the address of a page's events, as seen from beside it."""
    given = {} if asked is None else dict(zip(NAMES[page], asked[1:], strict=True))
    return f"events?{urlencode({'page': page} | {name: value for name, value in given.items() if value})}"
