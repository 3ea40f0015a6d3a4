"""How evenly the hash functions spread task ids: `python -m bench.spread`.

Pure arithmetic, the same on every machine: fixed sets of ids such as people use, dealt to tokens by each function and
to nodes by even ranges of tokens. `docs/operate/tokens.md` shows what it prints, and a test compares the two.

Chi-square over tokens, divided by its degrees of freedom, is 1 for ideal chance; for 10,000 tokens 19 of 20 ideal
functions lie between 0.97 and 1.03. Over nodes, the greatest deviation of a node's count from the mean is given.
"""

import random
import sys
import uuid
from collections import Counter
from collections.abc import Sequence

from jobsync.core.hashing import HASH_FUNCTIONS, HashFunction

TOKENS = 10_000
IDS = 100_000
NODES = 7


def id_sets(count: int) -> dict[str, list[str]]:
    """Make sets of ids of the kinds that people use, the same ones each time."""
    dice = random.Random(20261122)
    return {
        "numbers from 1": [str(number) for number in range(1, count + 1)],
        "customer-000001 ...": [f"customer-{number:06d}" for number in range(count)],
        "random UUIDs": [str(uuid.UUID(int=dice.getrandbits(128), version=4)) for _ in range(count)],
        "file paths": [
            f"s3://lake/2026/{number % 12 + 1:02d}/{number // 12 % 28 + 1:02d}/part-{number:05d}.parquet"
            for number in range(count)
        ],
    }


def chi_square_per_degree(ids: Sequence[str], function: HashFunction, tokens: int) -> float:
    """Compare the counts of the tokens with the mean; 1 is what chance gives."""
    counts = Counter(function(text, tokens) for text in ids)
    mean = len(ids) / tokens
    squares = sum((count - mean) ** 2 for count in counts.values()) + (tokens - len(counts)) * mean**2
    return squares / mean / (tokens - 1)


def counts_by_node(ids: Sequence[str], function: HashFunction, tokens: int, nodes: int) -> list[int]:
    """Count the ids of each of the nodes, which share the tokens in even ranges."""
    counts = [0] * nodes
    for text in ids:
        counts[function(text, tokens) * nodes // tokens] += 1
    return counts


def deviation_percent(counts: Sequence[int]) -> float:
    """Give the greatest deviation from the mean, in per cent of it."""
    mean = sum(counts) / len(counts)
    return max(abs(count - mean) for count in counts) / mean * 100


def row_of_functions(name: str, ids: Sequence[str]) -> str:
    """Write the row of one kind of ids: both measures, a column a function."""
    measured = [
        f"{chi_square_per_degree(ids, function, TOKENS):.3f}; "
        f"{deviation_percent(counts_by_node(ids, function, TOKENS, NODES)):.2f} %"
        for function in HASH_FUNCTIONS.values()
    ]
    return f"| {name} | {' | '.join(measured)} |"


def spread_of_functions() -> list[str]:
    """Write the table of both measures, for each kind of id and each function."""
    head = ["| ids | " + " | ".join(f"`{name}`" for name in HASH_FUNCTIONS) + " |", "|---" * 4 + "|"]
    return head + [row_of_functions(name, ids) for name, ids in id_sets(IDS).items()]


def deviation_of_batches(tasks: int, tokens: int, batches: int) -> float:
    """Give the mean, over many batches, of the fullest node's excess in per cent."""
    function = HASH_FUNCTIONS["double_sha256"]
    total = 0.0
    for batch in range(batches):
        counts = counts_by_node([f"{batch}/{task}" for task in range(tasks)], function, tokens, NODES)
        total += (max(counts) * NODES / tasks - 1) * 100
    return total / batches


def row_of_tokens(tokens: int) -> str:
    """Write the row of one number of tokens: what it does to batches of 600 and 10,000 tasks."""
    few, many = deviation_of_batches(600, tokens, 100), deviation_of_batches(10_000, tokens, 10)
    return f"| {tokens:,} | {few:.1f} % | {many:.1f} % |"


def spread_of_token_counts() -> list[str]:
    """Write the table of what the number of tokens does."""
    head = ["| tokens | 600 tasks | 10,000 tasks |", "|---:|---:|---:|"]
    return head + [row_of_tokens(tokens) for tokens in (70, 600, 1_000, 10_000, 100_000)]


if __name__ == "__main__":
    sys.stdout.write("\n".join([*spread_of_functions(), "", *spread_of_token_counts(), ""]))
