"""Recipes for web applications, played: what a load balancer would see of Flask and of FastAPI; a mounted page."""

from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from jobsync import CoordinationConfig, Job
from tests.docs.pages import blocks_of


def recipe(title: str, *, page: str = "guide/health.md", **names: Any) -> dict[str, Any]:
    """Run the block of that title."""
    (block,) = (each for each in blocks_of(page) if each.title == title)
    names["__name__"] = __name__
    exec(compile(block.text, title, "exec"), names)
    return names


def test_flask(server_dsn: str, prefix: str) -> None:
    job = Job("web-01", coordination_config=CoordinationConfig(dsn=server_dsn, appname=prefix))
    client = recipe("Flask", job=job)["app"].test_client()
    assert client.get("/health/ready").status_code == 503
    with job:
        reply = client.get("/health/ready")
        assert (reply.status_code, reply.get_json()["tokens"]) == (200, 10_000)
    assert (client.get("/health/ready").status_code, client.get("/health/live").status_code) == (503, 200)


def test_fastapi(server_dsn: str, prefix: str) -> None:
    app = recipe("FastAPI", config=CoordinationConfig(dsn=server_dsn, appname=prefix))["app"]
    with TestClient(app) as client:
        reply = client.get("/health/ready")
        assert (reply.status_code, reply.json()["status"]) == (200, "ready")
        assert client.get("/health/live").json() == {"status": "alive"}
    assert not app.state.job.health().is_ready


def test_the_live_page_is_mounted() -> None:
    app = recipe("FastAPI or Starlette", page="operate/dashboard.md", app=FastAPI(), TOKEN="t")["app"]
    with TestClient(app) as client:
        assert client.get("/ops/fleet/assets/app.css").headers["content-type"].startswith("text/css")
