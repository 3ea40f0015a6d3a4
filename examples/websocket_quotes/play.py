"""Play a feed of 200 symbols and its subscribers: three start, one joins, one is stopped, one is killed.

`python examples/websocket_quotes/play.py` ends with a verdict: 0 only if every symbol's quotes are stored as 1, 2,
... n without gap or repeat, in a table without a unique key, and positions, prices and volumes are the feed's own.
What a user writes is worker.py.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from websockets.sync.client import connect

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.stage import Check, Stage

WORKER = Path(__file__).with_name("worker.py")
FEED = Path(__file__).with_name("server.py")
SYMBOLS = 200
QUOTES_PER_SEC = 4.0
LAST_QUOTES = 3
TABLES = """
create table position (
    symbol text primary key, seq bigint not null default 0, last_price bigint, volume bigint not null default 0
);
create table quote (
    id bigint generated always as identity, at timestamptz not null default clock_timestamp(),
    symbol text not null, seq bigint not null, price bigint not null, size bigint not null, node text not null
)
"""


@dataclass(frozen=True, slots=True)
class Quote:
    """One stored row of the quotes."""

    symbol: str
    seq: int
    node: str


Totals = Mapping[str, tuple[int, int, int]]
"""By symbol: the number of its last quote, the price of that, the volume of all."""


def judge(sent: Totals, quotes: Iterable[Quote], positions: Totals) -> list[Check]:
    """Compare what is stored with what the feed says it sent."""
    stored: defaultdict[str, Counter[int]] = defaultdict(Counter)
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for quote in quotes:
        stored[quote.symbol][quote.seq] += 1
        owners[quote.symbol].add(quote.node)
    wanted = {symbol: range(1, last + 1) for symbol, (last, _, _) in sent.items()}
    missing = sum(seq not in stored[symbol] for symbol, seqs in wanted.items() for seq in seqs)
    repeated = sum(times - 1 for found in stored.values() for times in found.values())
    foreign = sum(seq not in wanted.get(symbol, ()) for symbol, found in stored.items() for seq in found)
    wrong = sum(positions.get(symbol) != total for symbol, total in sent.items())
    moved = sum(len(nodes) > 1 for nodes in owners.values())
    total = sum(last for last, _, _ in sent.values())
    return [
        Check(
            "each symbol's quotes are 1, 2, ... n",
            bool(total) and not missing and not repeated and not foreign,
            f"{total:,} quotes of {len(sent)} symbols; missing {missing}, repeated {repeated}, never sent {foreign}",
        ),
        Check("what they add up to is the feed's", wrong == 0, f"position, price or volume wrong for {wrong} symbols"),
        Check("symbols moved meanwhile", moved > 0, f"{moved} were stored by two nodes or more"),
    ]


class Play:
    """One play under way."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.names = [f"SYM{number:03}" for number in range(SYMBOLS)]
        stage.query("insert into position (symbol) select unnest(%s::text[])", self.names)
        stage.start("feed", FEED, SYMBOLS, QUOTES_PER_SEC)
        stage.wait_until(lambda: stage.output("feed").endswith("\n"), "the feed listens")
        self._url = stage.output("feed").strip()

    def subscribe(self, *names: str) -> None:
        """Start subscribers."""
        for name in names:
            self._stage.start(name, WORKER, name, self._url)

    def settle(self, *live: str) -> None:
        """Wait until every symbol flows again, to these nodes alone, and let it flow for a while; tell how it went."""
        stage = self._stage
        mark = self._last_row()
        shares: Counter[str] = Counter()

        def flows() -> bool:
            latest = "select distinct on (symbol) node, symbol from quote where id > %s order by symbol, id desc"
            shares.clear()
            shares.update(node for node, _ in stage.query(latest, mark))
            # Half of a fair share tells a node that has its tokens from one that has just got the first of them.
            settled = set(shares) == set(live) and min(shares.values()) > SYMBOLS / len(live) / 2
            return settled and shares.total() == SYMBOLS

        took_sec = stage.wait_until(flows, f"every symbol flows to {', '.join(live)}")
        mark = self._last_row()
        more = "select count(*) >= %s from quote where id > %s"
        stage.wait_until(lambda: stage.value(more, LAST_QUOTES * SYMBOLS, mark), "the quotes flow on")
        stage.wait_until(flows, "every symbol flows on")
        who = ", ".join(f"{name} follows {shares[name]}" for name in live)
        stage.say(f"   every symbol flowed again after {took_sec:.1f} s; {who}")

    def _last_row(self) -> int:
        return int(self._stage.value("select coalesce(max(id), 0) from quote"))

    def finish(self) -> dict[str, tuple[int, int, int]]:
        """Let the feed make no more quotes, wait until the last are stored, and give what it says it sent."""
        with connect(self._url) as feed:
            feed.send(json.dumps({"finish": True}))
            sent = {name: tuple(total) for name, total in json.loads(feed.recv())["sent"].items()}
        wanted = {name: seq for name, (seq, _, _) in sent.items()}
        positions = "select symbol, seq from position"
        self._stage.wait_until(lambda: dict(self._stage.query(positions)) == wanted, "the last quotes are stored")
        return sent


def main() -> int:
    """Play it and give the exit status."""
    with Stage("websocket_quotes", TABLES) as stage:
        play = Play(stage)
        stage.say(f"a feed of {SYMBOLS} symbols, {QUOTES_PER_SEC:g} quotes a second each; three subscribers start")
        play.subscribe("sub-1", "sub-2", "sub-3")
        play.settle("sub-1", "sub-2", "sub-3")
        stage.say("sub-4 joins")
        play.subscribe("sub-4")
        play.settle("sub-1", "sub-2", "sub-3", "sub-4")
        stage.say("sub-2 is told to stop (SIGTERM)")
        left = stage.stop("sub-2")
        play.settle("sub-1", "sub-3", "sub-4")
        stage.say("sub-3 is killed (SIGKILL)")
        stage.kill("sub-3")
        play.settle("sub-1", "sub-4")
        sent = play.finish()
        stage.say("the feed has ended, and its last quotes are stored")
        quotes = [Quote(*row) for row in stage.query("select symbol, seq, node from quote")]
        rows = stage.query("select symbol, seq, last_price, volume from position")
        checks = judge(sent, quotes, {symbol: (seq, price, volume) for symbol, seq, price, volume in rows})
        checks.append(Check("who was told to stop left well", left == 0, f"exit status {left}"))
        return stage.verdict(checks)


if __name__ == "__main__":
    sys.exit(main())
