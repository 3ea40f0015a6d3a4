"""The live page as a part of another application, which tells it neither when it begins nor when it ends."""

import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from jobsync import CoordinationConfig, NotRunning
from jobsync.api.cluster import migrate
from jobsync.web import dashboard, desk
from jobsync.web.desk import Desk
from tests.api.jobs import settings
from tests.cli.conftest import TWO_NODES
from tests.docs.pages import ROOT, blocks_of


def test_threads_that_come_at_once_share_one_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=30)
    made: list[Any] = []

    @contextmanager
    def reader(_: Any) -> Iterator[None]:
        both.wait()  # Both have found that there is none yet.
        yield

    class Queue:
        def __init__(self, _: Any) -> None:
            made.append(self)

        def close(self) -> None:
            made.remove(self)

    monkeypatch.setattr(desk, "open_reader", reader)
    monkeypatch.setattr(desk, "StandingQueue", Queue)
    shared = Desk(CoordinationConfig())
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(shared.queue)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert got == made * 2
    shared.close()
    shared.close()
    assert made == []


def test_a_mounted_page_works_and_its_queue_is_closed_with_the_process_or_the_application(
    server_dsn: str, prefix: str
) -> None:
    config = settings(server_dsn, prefix)
    migrate(config)
    page = dashboard(config)
    its_desk: Desk = page.state.dashboard._desk

    with TestClient(Starlette(routes=[Mount("/ops", page)])) as client:
        assert (client.get("/ops/").status_code, client.get("/ops/jobs").status_code) == (200, 200)
    # Starlette tells a mounted application nothing: the queue is open still, and is closed when the process ends.
    queue, closing = its_desk._queue, its_desk._closing
    assert queue is not None
    assert queue.counts()["pending"] == 0
    assert getattr(closing, "alive", None) is True
    assert getattr(closing, "atexit", None) is True

    # As docs/operate/dashboard.md says it: the application passes its own beginning and end on.
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with page.router.lifespan_context(page):
            yield

    with TestClient(Starlette(routes=[Mount("/ops", page)], lifespan=lifespan)) as client:
        assert client.get("/ops/jobs").status_code == 200
        assert its_desk._queue is queue
    assert vars(its_desk)["_queue"] is None
    with pytest.raises(NotRunning):
        queue.counts()


DJANGO = """
import sys
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="none",
    USE_TZ=True,
)
urlpatterns = [path("hello/<name>", lambda request, name: HttpResponse(f"Django greets {name}"))]
TOKEN = "sesame"
RECIPE
from starlette.testclient import TestClient

with TestClient(application) as client:
    fleet = client.get("/ops/fleet/")
    assert (fleet.status_code, "where they belong" in fleet.text) == (200, True), fleet.text
    assert client.get("/ops/fleet/jobs").status_code == 200
    assert client.get("/ops/fleet/assets/app.css").status_code == 200
    hello = client.get("/hello/ada")
    assert (hello.status_code, hello.text) == (200, "Django greets ada")
    assert client.get("/nowhere").status_code == 404
    answer = client.post("/ops/fleet/login", data={"token": TOKEN}, headers={"origin": "http://testserver"})
    assert "Log out" in answer.text
print("played")
"""


@pytest.mark.slow
def test_the_page_is_mounted_beside_django_as_its_documentation_says(server_dsn: str, prefix: str) -> None:
    config = settings(server_dsn, prefix)
    migrate(config)
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute(TWO_NODES.replace(" t_", f" {prefix}").encode())
    recipe = next(block.text for block in blocks_of("operate/dashboard.md") if block.title == "Django, in asgi.py")
    text = DJANGO.replace("RECIPE", recipe)
    env = {**os.environ, "SYNC_DSN": server_dsn, "SYNC_SQL_APPNAME": prefix, "PYTHONPATH": str(ROOT / "src")}
    played = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, check=False)
    assert (played.returncode, played.stdout) == (0, "played\n"), played.stderr
