"""The live page in a real browser, above a fleet of real processes; its pictures are left in build/screenshots."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from jobsync import CoordinationConfig, Job, JobQueue, NewJob
from jobsync.api.cluster import open_cluster
from tests.api.jobs import eventually, run_script, settings
from tests.docs.pages import ROOT
from tests.web.chromium import BROWSER, Page, browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: Debian's package `chromium` has it"),
]
AXE_CORE = "axe-core@4"
SHOTS = ROOT / "build" / "screenshots"
NODES, TOKENS, PIECES = 50, 1_000_000, 20
QUIET = 1.0  # The load below which a first paint is a measure of the page.

MEMBER = """
import sys, time
from jobsync import CoordinationConfig, Job, ProcessingWorker
name, dsn, prefix = sys.argv[1:]
config = CoordinationConfig(dsn=dsn, appname=prefix, total_tokens=10_000)
with Job(name, coordination_config=config, handle_signals=True) as job:
    worker = ProcessingWorker(config, worker_id=f"worker-{name}", node=job, max_concurrent_jobs=2)
    @worker.handles("resize")
    def resize(job):
        time.sleep(0.02)
    @worker.handles("mail")
    def mail(job):
        raise ValueError(f"no such address: {job.payload['to']}")
    worker.start()
    print("in", flush=True)
    job.wait()
    worker.stop()
"""


@contextmanager
def served(config: CoordinationConfig) -> Iterator[str]:
    """Run `jobsync dashboard` for as long as the block runs; its address."""
    command = [
        sys.executable,
        "-m",
        "jobsync",
        "dashboard",
        "--port",
        "0",
        "--appname",
        config.appname,
        "--auth",
        "sesame",
    ]
    environment = {**os.environ, "SYNC_DSN": str(config.dsn)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browser(tmp_path / "profile") as page:
        page.size(1280, 900)
        page.scheme("light")
        yield page


def test_a_killed_node_is_shown_without_a_reload(server_dsn: str, prefix: str, page: Page) -> None:
    config = settings(server_dsn, prefix, total_tokens=10_000)
    with ExitStack() as stack:
        members = {}
        for name in ("paris-01", "paris-02", "osaka-01", "lima-01"):
            process = members[name] = stack.enter_context(run_script(MEMBER, name, server_dsn, prefix))
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "in\n"
        with JobQueue(config) as queue:
            queue.enqueue_many([("resize", {"n": n}) for n in range(400)])
            queue.enqueue_many([NewJob("mail", {"to": "<b>nobody</b>"}, max_attempts=1)] * 3)
            queue.enqueue("unknown", {"kind": "that nobody knows"})
        address = stack.enter_context(served(config))
        page.open(address)
        eventually(lambda: page.js("document.getElementById('live').textContent") == "live", limit_sec=60)
        eventually(
            lambda: "where they belong" in page.js("document.getElementById('summary').textContent"), limit_sec=60
        )
        picture(page, "fleet-light")
        with open_cluster(config) as cluster:
            cluster.drain("paris-02", by="ada")
            drained = "document.querySelector('#nodes tr[data-node=\"paris-02\"]')?.textContent ?? ''"
            eventually(lambda: "draining" in page.js(drained), "a drained node on the page", limit_sec=60)
            picture(page, "dashboard")
            cluster.resume("paris-02", by="ada")
        page.js("window.here = 'still the same document'")

        members["osaka-01"].kill()
        row = "document.querySelector('#nodes tr[data-node=\"osaka-01\"]')?.textContent ?? ''"
        eventually(lambda: "fenced" in page.js(row), "a fenced node on the page", limit_sec=60)
        eventually(
            lambda: "where they belong" in page.js("document.getElementById('summary').textContent"), limit_sec=60
        )
        assert "leave" in page.js("document.querySelector('#history tbody tr').textContent") or "death" in page.js(
            "document.querySelector('#history tbody').textContent"
        )
        assert page.js("window.here") == "still the same document"
        picture(page, "fleet-after-a-kill")

        for name, path, scheme, width in (
            ("fleet-dark", "", "dark", 1280),
            ("fleet-phone", "", "light", 360),
            ("fleet-dark-phone", "", "dark", 360),
            ("queue-light", "queue", "light", 1280),
            ("queue-dark-phone", "queue", "dark", 360),
            ("job", "jobs?status=failed", "light", 1280),
        ):
            page.scheme(scheme)
            page.size(width, 640, phone=width < 500, scale=1.5)
            page.open(address + path)
            if name == "job":
                page.open(str(page.js("document.querySelector('tbody a').href")))
                bold = page.js("[...document.querySelectorAll('main b')].map(each => each.textContent)")
                assert "Enqueued" in bold
                assert "nobody" not in bold, "no markup came out of a payload"
            eventually(lambda: page.js("document.getElementById('live').textContent") == "live", limit_sec=60)
            assert page.js("document.documentElement.scrollWidth <= innerWidth"), "it must not be wider than the window"
            picture(page, name)
        assert page.errors == []  # Neither of the script, nor refusals of the policy.


def test_jobs_and_locks_are_live(server_dsn: str, prefix: str, page: Page) -> None:
    config = settings(server_dsn, prefix)
    text = "document.getElementById('{0}').textContent"
    with Job("paris-01", coordination_config=config) as job, JobQueue(config) as queue, served(config) as address:
        number = queue.enqueue("mail", {"to": "<b>nobody</b>"})
        page.open(address + "jobs?kind=mail")
        eventually(lambda: "pending" in page.js(text.format("jobs")), limit_sec=60)
        page.js("window.here = 'still the same document'")
        queue.cancel(number)
        eventually(lambda: "cancelled" in page.js(text.format("jobs")), "a cancelled job in the list", limit_sec=60)
        assert page.js("window.here") == "still the same document"
        page.open(f"{address}job?id={number}")
        queue.retry(number)
        eventually(lambda: "Waits" in page.js(text.format("job")), "a job that waits again", limit_sec=60)
        page.open(address + "locks")
        page.js("window.here = 'still the same document'")
        job.register_lock("invoices", ["berlin%", "paris%"], reason="<i>theirs</i>")
        eventually(lambda: "invoices" in page.js(text.format("locks")), "a new lock in the list", limit_sec=60)
        assert "fallback 2" in page.js(text.format("locks"))
        with Job("berlin-01", coordination_config=config):
            eventually(lambda: "berlin-01" in page.js(text.format("locks")), "the lock's first choice", limit_sec=60)
        assert page.js("window.here") == "still the same document"
        page.size(390, 900, phone=True)
        job.register_lock("y" * 300, ["nobody"], reason="why " * 60)
        eventually(lambda: "yyy" in page.js(text.format("locks")), limit_sec=60)
        assert page.js("document.documentElement.scrollWidth <= innerWidth"), "it must not be wider than the window"
        assert page.errors == []


CUT_OFF = """
Array.from(document.querySelectorAll('main td, main th[scope=row], main button, main .tag'))
    .filter((each) => each.textContent.trim() && !each.closest('thead'))
    .filter((each) => {
        const box = each.getBoundingClientRect();
        return box.width === 0 || box.left < 0 || box.right > innerWidth;
    })
    .map((each) => each.textContent.trim())
"""
NAMED = """
Array.from(document.querySelectorAll('#nodes tr[data-node] td[data-l]'))
    .filter((each) => each.getBoundingClientRect().width > 0)
    .map((each) => getComputedStyle(each, '::before').content)
"""
CROWDED = """
(() => {
    const [tools, table] = ['#jobs .tools', '#jobs .scroll'].map((at) => document.querySelector(at));
    return table.getBoundingClientRect().top - tools.getBoundingClientRect().bottom;
})()
"""


def test_a_phone_shows_all_that_a_desk_does(server_dsn: str, prefix: str, page: Page) -> None:
    config = settings(server_dsn, prefix)
    with Job("paris-01", coordination_config=config) as job, JobQueue(config) as queue, served(config) as address:
        job.register_lock("invoices of the year before", ["berlin%", "paris%"], reason="they have the archive")
        queue.cancel(queue.enqueue("mail"))
        queue.enqueue("resize")
        page.size(360, 640, phone=True)
        page.open(address + "login")
        page.js("document.getElementById('token').value = 'sesame', document.querySelector('main form').submit()")
        eventually(lambda: page.js("document.querySelector('#nodes button') !== null"), "the fleet", limit_sec=60)
        page.loaded()
        for path in ("", "queue", "jobs?status=cancelled", "locks"):
            page.open(address + path)
            assert page.js(CUT_OFF) == [], path
            assert page.js("document.documentElement.scrollWidth <= innerWidth"), path
            name = path.partition("?")[0] or "fleet"
            picture(page, f"{name}-phone-logged-in")
            page.scheme("dark")
            picture(page, f"{name}-phone-logged-in-dark")
            page.scheme("light")
        page.open(address)
        named = page.js(NAMED)
        for said in ("lease left", "share", "process", "beat"):
            assert f'"{said} "' in named
        for width in (360, 1280):
            page.size(width, 640, phone=width < 500)
            page.open(address + "jobs?status=cancelled")
            assert page.js(CROWDED) >= 10
            picture(page, f"jobs-logged-in-{width}")


def picture(page: Page, name: str) -> None:
    """Leave a picture, without the line at its end that names the server of the tests."""
    path = SHOTS / f"{name}.png"
    page.js("document.querySelector('footer').hidden = true")
    page.shoot(path, at_most=1250 if name == "fleet-phone" else 5_000)
    page.js("document.querySelector('footer').hidden = false")
    assert path.stat().st_size > 10_000


@pytest.fixture(scope="module")
def axe() -> str:
    """Give the text of axe-core: the file that AXE_CORE names, or what npm installs, once, into build/."""
    if "AXE_CORE" in os.environ:
        return Path(os.environ["AXE_CORE"]).read_text(encoding="utf-8")
    home = ROOT / "build" / "axe-core"
    script = home / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("no npm here to install axe-core with, and AXE_CORE does not name its axe.min.js")
        home.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--prefix", str(home), "--no-audit", "--no-fund", "--ignore-scripts", AXE_CORE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        except subprocess.TimeoutExpired:
            pytest.skip("npm does not come to an end installing axe-core")
        if done.returncode != 0:
            pytest.skip(f"npm cannot install axe-core here: {done.stderr.strip()[-200:]}")
    return script.read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(server_dsn: str, prefix: str, page: Page, axe: str, scheme: str) -> None:
    config = settings(server_dsn, prefix)
    with Job("paris-01", coordination_config=config) as job, JobQueue(config) as queue, served(config) as address:
        job.register_lock("invoices", ["berlin%", "paris%"])
        number = queue.enqueue("mail")
        queue.cancel(number)
        page.scheme(scheme)
        for path in ("login", "", "queue", "jobs", "locks", "find?key=invoices", f"job?id={number}"):
            page.open(address + path)
            page.call("Runtime.evaluate", expression=axe)
            found = page.js("axe.run().then((all) => all.violations.map((one) => `${one.id}: ${one.nodes[0].html}`))")
            assert found == [], path


def test_the_first_paint_of_a_large_fleet(server_dsn: str, prefix: str, page: Page) -> None:
    config = settings(server_dsn, prefix, total_tokens=TOKENS)
    is_quiet = os.getloadavg()[0] < QUIET
    large_fleet(config)
    with served(config) as address:
        page.open(address + "login")  # The browser, its cache and the poller are warm, as for whoever looks at it.
        paints = []
        for _ in range(5):
            page.open(address)
            eventually(lambda: page.js(PAINT) is not None, limit_sec=60)
            paints.append(page.js(PAINT))
        picture(page, "large-fleet")
        size = page.js("performance.getEntriesByType('navigation')[0].decodedBodySize")
        assert page.js("document.querySelectorAll('#nodes tbody tr').length") == NODES
        assert page.js("document.querySelectorAll('#strip path').length") == 2 * NODES
    print(f"first paint: {sorted(paints)} ms, {size:,} bytes")
    # Where others are at work as well, what is measured is how long a browser waits for its turn.
    assert min(paints) < (300 if is_quiet else 3000)


PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def large_fleet(config: CoordinationConfig) -> None:
    """Write down a fleet of 50 nodes and a million tokens, in 20 pieces a node."""
    with open_cluster(config) as cluster:
        cluster.migrate()
    prefix = config.prefix
    with psycopg.connect(str(config.dsn), autocommit=True) as conn:
        conn.execute(f"update {prefix}meta set total_tokens = {TOKENS}, hash_function = 'double_sha256'".encode())
        for node in range(NODES):
            size = TOKENS // NODES // PIECES
            starts = [(piece * NODES + node) * size for piece in range(PIECES)]
            ranges = "{" + ",".join(f"[{start},{start + size})" for start in starts) + "}"
            name = f"node-{node:02d}"
            conn.execute(
                f"insert into {prefix}node (name, incarnation, bind, heartbeat_timeout_ms, row_lease_ms, backend_pid, "
                f"postmaster_start) values ('{name}', {node + 1}, {node + 1}, 3600000, 3600000, 1, now())".encode()
            )
            conn.execute(f"insert into {prefix}grant values ({node + 1}, '{name}', {node + 1}, '{ranges}')".encode())
            conn.execute(f"insert into {prefix}target values ('{name}', '{ranges}', 1)".encode())
