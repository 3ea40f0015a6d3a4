"""TLS with a verified server, and passwords that are shown nowhere, whatever goes wrong, at DEBUG."""

import logging
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobsync import CoordinationConfig, DatabaseUnavailable, Job, JobQueue, JobsyncError, ProcessingWorker
from tests.api.jobs import eventually, query
from tests.servers import PrivateServer

OPENSSL = shutil.which("openssl")
SECRET = "s3cr&t: pa's=wörd\\%"
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="no openssl on this machine makes a certificate")


# --- TLS -----------------------------------------------------------------------------------------


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for a host name, signed by itself, and its key."""
    directory.mkdir(exist_ok=True)
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    command = [str(OPENSSL), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True, timeout=60)
    return cert, key


class TlsDoor:
    """A server's door that speaks TLS and nothing else: the wheel's PostgreSQL is built without it.

    Every client must ask for TLS first, as libpq does where it is told to; what comes after goes on as it is.
    """

    REQUEST = bytes.fromhex("0000000804d2162f")

    def __init__(self, server: PrivateServer, cert: Path, key: Path) -> None:
        self._to = ("127.0.0.1", server.port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(cert, key)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        self.served = 0
        self.plain = 0
        threading.Thread(target=self._let_in, daemon=True).start()

    def _let_in(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._door.accept()
                threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with suppress(OSError), caller, socket.create_connection(self._to) as server:
            if caller.recv(8) != self.REQUEST:
                self.plain += 1
                return
            caller.sendall(b"S")
            with self._context.wrap_socket(caller, server_side=True) as secured:
                self.served += 1
                self._relay(secured, server)

    @staticmethod
    def _relay(secured: ssl.SSLSocket, server: socket.socket) -> None:
        # One thread serves both ways: a TLS connection is not for two at one time.
        secured.setblocking(False)
        while True:
            ready = [secured] if secured.pending() else select.select([secured, server], [], [])[0]
            for source in ready:
                try:
                    data = source.recv(65_536)
                except ssl.SSLWantReadError:
                    continue
                if not data:
                    return
                sink = server if source is secured else secured
                sink.setblocking(True)
                sink.sendall(data)
                secured.setblocking(False)

    def close(self) -> None:
        self._door.close()


@pytest.fixture
def secure(make_private_server: Callable[..., PrivateServer], tmp_path: Path) -> Iterator[tuple[TlsDoor, str, Path]]:
    server = make_private_server()
    cert, key = certificate(tmp_path, "localhost")
    door = TlsDoor(server, cert, key)
    yield door, make_conninfo(server.dsn, port=door.port), cert
    door.close()


@needs_openssl
def test_a_verified_server_serves_sessions_transactions_and_the_queue(secure: tuple[TlsDoor, str, Path]) -> None:
    door, place, cert = secure
    dsn = make_conninfo(place, host="localhost", sslmode="verify-full", sslrootcert=str(cert))
    config = CoordinationConfig(dsn=dsn, total_tokens=10)
    with Job("w0", coordination_config=config) as job, JobQueue(config) as jobs:
        with job.transaction("t") as conn:
            assert conn.pgconn.ssl_in_use
        worker = ProcessingWorker(config, worker_id="q")
        worker.handles("k")(lambda job: None)
        number = jobs.enqueue("k")
        worker.start()
        try:
            eventually(lambda: (found := jobs.get(number)) is not None and found.status == "done", "the job is done")
        finally:
            worker.stop()
    assert door.served >= 3
    assert door.plain == 0, "a connection went without TLS"


@needs_openssl
def test_a_server_of_another_name_or_certificate_is_refused(secure: tuple[TlsDoor, str, Path], tmp_path: Path) -> None:
    _, place, cert = secure
    other, _ = certificate(tmp_path / "other", "localhost")
    wrong = [
        make_conninfo(place, host="127.0.0.1", sslmode="verify-full", sslrootcert=str(cert)),
        make_conninfo(place, host="localhost", sslmode="verify-full", sslrootcert=str(other)),
    ]
    for dsn in wrong:
        with pytest.raises(DatabaseUnavailable, match="certificate"):
            Job("w0", coordination_config=CoordinationConfig(dsn=dsn)).__enter__()


# --- secrets -------------------------------------------------------------------------------------

PARTS = (SECRET, "s3cr", "pa's", "wörd", "s3cr%26t", "w%C3%B6rd")


def shows(text: str) -> list[str]:
    return [part for part in PARTS if part in text]


@pytest.fixture
def guarded(make_private_server: Callable[..., PrivateServer]) -> PrivateServer:
    return make_private_server(password=SECRET)


def ways_to_say(server: PrivateServer) -> dict[str, dict[str, Any]]:
    port = int(str(conninfo_to_dict(server.dsn)["port"]))
    url = f"postgresql://postgres:s3cr%26t%3A%20pa%27s%3Dw%C3%B6rd%5C%25@127.0.0.1:{port}/postgres"
    fields = {"host": "127.0.0.1", "port": port, "user": "postgres", "password": SECRET, "dbname": "postgres"}
    return {"conninfo": {"dsn": server.dsn}, "url": {"dsn": url}, "fields": fields}


SAID = ["conninfo", pytest.param("url", marks=pytest.mark.slow), pytest.param("fields", marks=pytest.mark.slow)]


@pytest.mark.parametrize("said", SAID)
def test_a_fleet_that_loses_its_database_tells_no_password(
    guarded: PrivateServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], said: str
) -> None:
    """Through a life with failures: entered, sessions killed, the server away, calls that fail."""
    caplog.set_level(logging.DEBUG)
    times: dict[str, Any] = {"heartbeat_interval_sec": 0.3, "heartbeat_timeout_sec": 1.0}
    config = CoordinationConfig(**ways_to_say(guarded)[said], **times, total_tokens=10)
    told = []
    with Job("w0", coordination_config=config) as job, JobQueue(config) as jobs:
        worker = ProcessingWorker(config, worker_id="q")
        worker.handles("k")(lambda job: None)
        worker.start()
        query(guarded.dsn, "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
        eventually(lambda: job.my_tokens, "it is back")
        guarded.stop("immediate")
        for call in (lambda: jobs.enqueue("k"), job.list_locks):
            with pytest.raises(JobsyncError) as caught:
                call()
            told += ["".join(traceback.format_exception(caught.value)), repr(caught.value)]
        told += [repr(each) for each in (config, job, jobs, worker, job.status())]
        worker.stop()
    told += [caplog.text, *capfd.readouterr()]
    told += [" ".join(psutil.Process().cmdline()), str(psutil.Process().name())]
    assert shows("\n".join(told)) == []


def test_a_wrong_password_is_told_without_it_by_the_command(guarded: PrivateServer) -> None:
    place = conninfo_to_dict(guarded.dsn)
    dsn = make_conninfo("", **{**place, "password": SECRET + "x"})
    run = subprocess.run(
        [sys.executable, "-m", "jobsync", "status"],
        env={**os.environ, "SYNC_DSN": dsn, "PYTHONFAULTHANDLER": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode != 0
    assert "password authentication failed" in run.stdout + run.stderr
    assert shows(run.stdout + run.stderr) == []
