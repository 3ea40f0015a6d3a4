"""One subscriber of a fleet: follows the symbols whose tokens are this node's, and stores each quote exactly once.

Run it under another name on every machine: `SYNC_DSN=postgresql://... python worker.py feed-1 ws://quotes:8765`.

Three things together make it exactly once. The feed numbers its quotes and can replay them. The position of a symbol
(the number of the last quote stored) commits together with what the quote does to the tables, in `job.transaction`, and
only while the symbol is this node's. And a node lets go of a symbol only when no such transaction is under way.
"""

import json
import logging
import sys
import time
from threading import Lock
from typing import Any

import psycopg
from websockets.sync.client import connect

from jobsync import CoordinationConfig, Job, JobsyncError

log = logging.getLogger("subscriber")

GATHER_SEC = 0.3


class Subscriber:
    """Follows symbols as tokens come and go; `run` returns when the process is told to stop."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self.config = CoordinationConfig.from_env()
        self.waiting: dict[str, list[Any]] = {}  # the quotes received and not yet stored, by symbol followed
        self.in_hand = Lock()

    def run(self) -> None:
        """Join the fleet, and store what the feed sends."""
        with (
            psycopg.connect(self.config.dsn or "", autocommit=True) as self.db,
            # At the end quotes still come in that nobody reads any more: the good-bye need not wait for them.
            connect(self.url, close_timeout=1) as self.feed,
        ):
            self.symbols = [symbol for (symbol,) in self.db.execute("select symbol from position")]
            with Job(
                self.name,
                coordination_config=self.config,
                on_tokens_added=self.follow,
                on_tokens_removed=self.let_go,
                handle_signals=True,
            ) as self.job:
                while not self.job.wait(timeout=0):
                    self.gather()
                    for symbol in list(self.waiting):
                        self.store(symbol)

    # --- tokens come and go: jobsync calls these on a thread of its own -------------------------

    def follow(self, tokens: set[int]) -> None:
        """Subscribe, each symbol from the position at which its last owner left it."""
        try:
            symbols = self.symbols_of(tokens)
            rows = self.db.execute("select symbol, seq from position where symbol = any(%s)", [symbols])
            positions: dict[str, int] = dict(rows.fetchall())
        except psycopg.Error:
            self.job.stop()  # Who cannot follow his symbols must not keep their tokens.
            raise
        with self.in_hand:
            self.waiting |= {symbol: [] for symbol in positions}
        self.feed.send(json.dumps({"subscribe": positions}))

    def let_go(self, tokens: set[int]) -> None:
        """Stop following. The next owner begins after this has returned, so it waits for a commit in hand."""
        symbols = self.symbols_of(tokens)
        with self.in_hand:
            for symbol in symbols:
                self.waiting.pop(symbol, None)  # What is not stored, the next owner has replayed.
        self.feed.send(json.dumps({"unsubscribe": symbols}))

    def symbols_of(self, tokens: set[int]) -> list[Any]:
        """Give the symbols that hash to these tokens."""
        return [symbol for token in tokens for symbol in self.job.get_task_ids_for_token(token, self.symbols)]

    # --- quotes come in ------------------------------------------------------------------------

    def gather(self) -> None:
        """Collect what the feed sends for a moment, so that one commit a symbol stores all of it."""
        until_sec = time.perf_counter() + GATHER_SEC
        while (left_sec := until_sec - time.perf_counter()) > 0:
            try:
                quote = json.loads(self.feed.recv(timeout=left_sec))
            except TimeoutError:
                return
            with self.in_hand:
                if quote["symbol"] in self.waiting:
                    self.waiting[quote["symbol"]].append(quote)

    def store(self, symbol: str) -> None:
        """Commit what waits for one symbol, if it is still followed."""
        with self.in_hand:
            quotes = self.waiting.get(symbol)
            if not quotes:
                return
            try:
                with self.job.transaction(symbol, repeat=True) as conn:
                    write(conn, self.name, symbol, quotes)
            except JobsyncError as error:
                log.warning("%s waits for the next try: %s", symbol, error)  # or until `let_go` takes it away
                return
            quotes.clear()


def write(conn: Any, node: str, symbol: str, quotes: list[Any]) -> None:
    """Write those quotes that come next after the stored position, and move the position."""
    (stored,) = conn.execute("select seq from position where symbol = %s", [symbol]).fetchone()
    fresh: list[Any] = []
    for quote in quotes:
        # Anything else is stored already, and the answer to the commit was lost;
        # or it was under way when the symbol moved, and is replayed.
        if quote["seq"] == stored + len(fresh) + 1:
            fresh.append(quote)
    if fresh:
        rows = [(symbol, quote["seq"], quote["price"], quote["size"], node) for quote in fresh]
        conn.cursor().executemany(
            "insert into quote (symbol, seq, price, size, node) values (%s, %s, %s, %s, %s)", rows
        )
        conn.execute(
            "update position set seq = %s, last_price = %s, volume = volume + %s where symbol = %s",
            [fresh[-1]["seq"], fresh[-1]["price"], sum(quote["size"] for quote in fresh), symbol],
        )


if __name__ == "__main__":
    Subscriber(sys.argv[1], sys.argv[2]).run()
