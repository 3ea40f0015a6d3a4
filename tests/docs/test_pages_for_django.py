"""The page about Django, played: its files make an application, whose jobs live and die with Django's transactions."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from jobsync import CoordinationConfig, JobQueue
from tests.api.jobs import eventually
from tests.docs.pages import ROOT, blocks_of

PAGE = "guide/django.md"
MANAGE = """
import os
import sys

import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", **eval(os.environ["PLACE"])}},
    INSTALLED_APPS=["shop"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    SECRET_KEY="none",
)
django.setup()
"""
PLAY = (
    MANAGE
    + """
from django.db import connection, transaction
from django.test import RequestFactory
from shop.jobs import enqueue, queue
from shop.models import Order
from shop.views import order

with connection.schema_editor() as editor:
    editor.create_model(Order)
assert order(RequestFactory().post("/", {"customer": "ada"})).status_code == 201
try:
    order(RequestFactory().post("/", {"customer": ""}))
except ValueError:
    pass
else:
    raise AssertionError("an order without a customer")
assert [each.customer for each in Order.objects.all()] == ["ada"]
assert queue().counts()["pending"] == 1, queue().counts()
with transaction.atomic():
    enqueue("confirm", {"order": 0}, job_id="seen when committed")
    assert queue().get_by_job_id("seen when committed") is None
assert queue().get_by_job_id("seen when committed") is not None
connection.close()
enqueue("confirm", {"order": 0})
assert queue().counts()["pending"] == 3
queue().close()
"""
)
WORK = (
    MANAGE
    + """
from django.core.management import call_command

call_command("jobworker", "--slots", "2")
"""
)


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """Write the files of the page."""
    for block in blocks_of(PAGE):
        if block.title is not None:
            path = tmp_path / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            for above in path.relative_to(tmp_path).parents[:-1]:
                (tmp_path / above / "__init__.py").touch()
    return tmp_path


def test_the_application_of_the_page(application: Path, server_dsn: str, prefix: str) -> None:
    database = f"{prefix}shop"
    given = conninfo_to_dict(server_dsn)
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute(f"create database {database}".encode())
    place = {"HOST": given["host"], "PORT": str(given.get("port", "")), "NAME": database}
    place |= {"USER": given["user"], "PASSWORD": given.get("password", "none")}
    env = {**os.environ, "PLACE": repr(place), "PYTHONPATH": f"{application}:{ROOT / 'src'}"}

    played = subprocess.run([sys.executable, "-c", PLAY], env=env, capture_output=True, text=True, check=False)
    assert played.returncode == 0, played.stderr

    config = CoordinationConfig(dsn=server_dsn + f" dbname={database}")
    worker = subprocess.Popen([sys.executable, "-c", WORK], env=env, stderr=subprocess.PIPE, text=True)
    try:
        with JobQueue(config) as queue:
            eventually(lambda: queue.counts()["done"] == 3 or worker.poll() is not None, "the jobs are done")
            assert queue.counts()["done"] == 3
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        _, told = worker.communicate()
    with psycopg.connect(server_dsn, dbname=database) as conn:
        assert conn.execute("select customer, is_confirmed from shop_order").fetchall() == [("ada", True)], told
