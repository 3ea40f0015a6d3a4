"""The pages about tasks, played: each does what it says."""

from datetime import date, timedelta

import pytest

from tests.docs.stage import Countdown, Stage

INVOICES = [f"invoice-{number}" for number in range(40)]


def test_the_home_page(stage: Stage) -> None:
    stage.rows("create table result (file text, outcome text)")
    stage.play("index.md", list_of_files=lambda: ["a", "b", "c"], work_on=str.upper)
    assert sorted(stage.rows("select * from result")) == [("a", "A"), ("b", "B"), ("c", "C")]


def test_the_shape_of_every_worker(stage: Stage) -> None:
    done: list[int] = []
    stage.play("guide/index.md", all_tasks=lambda: range(20), process=done.append)
    assert done == list(range(20))
    assert len(stage.rows("select 1 from sync_audit")) == 20


def test_batches(stage: Stage) -> None:
    sent: dict[str, list[str]] = {name: [] for name in ("send", "remind", "print", "keep", "export")}
    stage.play(
        "guide/batch.md",
        list_invoices=lambda: INVOICES,
        send_invoice=sent["send"].append,
        send_reminder=sent["remind"].append,
        print_invoice=sent["print"].append,
        looks_interesting=lambda invoice: invoice == "invoice-7",
        keep_sample=sent["keep"].append,
        export_many=sent["export"].extend,
    )
    assert all(sorted(sent[name]) == sorted(INVOICES) for name in ("send", "remind", "print", "export"))
    assert sent["keep"] == ["invoice-7"]
    counts = dict(stage.rows("select coalesce(run, '-'), count(*) from sync_audit group by run"))
    assert counts == {
        "invoices-2026-11-22": 40,
        "reminders-2026-11-22": 40,
        "exports-2026-11-22": 40,
        "samples-2026-11-22": 8,
        "-": 40,
    }
    assert stage.rows("select count(*) from sync_claim where run like 'samples%'") == [(8,)]


def test_dates(stage: Stage) -> None:
    closed: list[tuple[int, date]] = []
    names = stage.play(
        "guide/dates.md",
        accounts_of=lambda day: [day.day * 10, day.day * 10 + 1],
        close_books=lambda account, day: closed.append((account, day)),
    )
    first = date(2026, 11, 1)
    assert sorted(closed) == [(n * 10 + k, first + timedelta(days=n - 1)) for n in (1, 2, 3) for k in (0, 1)]
    assert (names["done"], names["left"]) == ({"10", "11"}, [])


def test_work_that_never_ends(stage: Stage) -> None:
    stage.rows("create table orders (id integer primary key, state text default 'new', parcel text)")
    stage.rows("insert into orders select generate_series(1, 30)")
    shipped: list[int] = []

    def pending() -> list[int]:
        gone = set(shipped)
        return [order for (order,) in stage.rows("select id from orders where state = 'new'") if order not in gone][:8]

    def pack(order: int) -> str:
        return f"parcel of {order}"

    stage.play("guide/continuous.md", until=Countdown(2), pending_orders=pending, ship=shipped.append, pack=pack)
    packed = stage.rows("select id, parcel from orders where state = 'packed'")
    assert len(packed) == 8
    assert all(parcel == f"parcel of {order}" for order, parcel in packed)
    assert sorted([*shipped, *(order for order, _ in packed)]) == list(range(1, 31))


def test_once_and_only_once(stage: Stage) -> None:
    stage.rows("create table payout (id text, amount integer); create table bonus (id text)")
    stage.rows("create table ledger (id text primary key, amount integer)")
    payouts = ["anna", "bert", "carla"]
    names = stage.play("guide/idempotent.md", list_payouts=lambda: payouts, compute=len)
    assert sorted(stage.rows("select * from payout")) == [("anna", 4), ("bert", 4), ("carla", 5)]
    assert len(stage.rows("select 1 from bonus")) == len(stage.rows("select 1 from ledger")) == 3
    shelf = names["shelf"]
    epoch = shelf.values["anna"][0]
    shelf.put("anna", 5, epoch + 1)
    with pytest.raises(names["StaleWriter"]):
        shelf.put("anna", 6, epoch)


def test_recovery(stage: Stage) -> None:
    with stage.rival("worker-07") as lost:
        for task in ("a", "b"):
            lost.add_task(task)
    stage.rows("update sync_claim set created_on = created_on - interval '10 minutes' where item = 'a'")
    again: list[str] = []
    done: list[str] = []
    stage.play("guide/recovery.md", new_tasks=lambda: ["c"], do=done.append, do_again=again.append)
    assert (again, done) == (["a"], ["c"])
    assert sorted(stage.rows("select item from sync_audit")) == [("a",), ("c",)]


def test_configuration(stage: Stage) -> None:
    done: list[str] = []
    stage.play("guide/configuration.md", all_tasks=lambda: ["x"], process=done.append)
    assert done == ["x"]


def test_tokens(stage: Stage) -> None:
    assert stage.play("operate/tokens.md")["config"].total_tokens == 50_000


def test_tuning_and_deployment(stage: Stage) -> None:
    assert stage.play("operate/tuning.md")["large"].heartbeat_interval_sec == 3
    stage.play("operate/deployment.md")


def test_maintenance(stage: Stage) -> None:
    with stage.rival("gpu-old-07") as old:
        old.register_lock("x", "%")
    stage.play("operate/maintenance.md")
    assert stage.told == ["1 locks removed"]


def test_administration(stage: Stage) -> None:
    with stage.rival():
        stage.play("reference/administration.md")
    assert stage.told[0] == "rival-01 1 60 healthy"
    assert stage.told[1].startswith("rival-01 live 60 ")
    assert stage.told[2] == "0 60 rival-01"
    assert stage.told[3] == "30 tokens would move"
    assert stage.told[4].startswith("['freeze by ")
    assert stage.told[5].startswith("no lock on its token")


def test_pins(stage: Stage) -> None:
    done: list[str] = []
    with stage.rival() as rival:
        rival.register_lock("other", "%")
        rival.clear_locks_by_creator("rival-01")
        tasks = ["train-model", "task-1"]
        stage.play("guide/pins.md", all_tasks=lambda: tasks, process=done.append, gpu_tasks_of=lambda day: ["infer"])
        assert "train-model" in done
        with_reasons = {lock["task_id"]: lock["reason"] for lock in rival.list_locks()}
    assert with_reasons == {"infer": "needs a GPU"}
    assert stage.told == ["infer gpu-a100-01 then gpu-% needs a GPU gpu-a100-01"]
