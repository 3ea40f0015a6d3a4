"""Every snippet of the documentation: Python compiles and is played, SQL runs on a live fleet."""

import re
import textwrap
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.docs.pages import ROOT, Block, blocks_in, blocks_of, pages
from tests.sql.cluster import Cluster

# Excerpts of programs that have tests of their own: they need only be Python.
TOLD_ELSEWHERE = {
    "guide/async.md",
    "guide/django.md",
    "guide/examples.md",
    "guide/leader.md",
    "guide/older-forms.md",
    "guide/records.md",
}
PLAYED = set(
    re.findall(
        r'"([a-z-]+(?:/[a-z-]+)?\.md)"',
        "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_pages_that_*.py")),
    )
) | {"tutorial.md"}
SQL = [block for block in blocks_in("sql") if not block.text.startswith("--8<--")]


@pytest.mark.parametrize("block", blocks_in("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    text = block.text
    if block.page in TOLD_ELSEWHERE:  # An excerpt may come from inside a function.
        text = f"async def excerpt():\n{textwrap.indent(text, '    ')}    pass\n"
    compile(text, str(block), "exec")


def test_every_page_with_python_is_played() -> None:
    with_python = {page for page in pages() if any(block.language == "python" for block in blocks_of(page))}
    assert with_python - TOLD_ELSEWHERE == PLAYED & with_python
    assert with_python >= PLAYED


@pytest.mark.parametrize("block", SQL, ids=str)
def test_sql_runs_on_a_live_fleet(busy_cluster: Cluster, block: Block) -> None:
    assert block.text.count(";") == 1
    with busy_cluster.connect() as conn:
        if block.text.startswith("vacuum"):
            conn.execute(block.text.encode())
            return
        with conn.transaction(force_rollback=True):
            cursor = conn.execute(block.text.encode())
            if cursor.description:
                rows = cursor.fetchall()
                assert rows or "backend_type" in block.text, "it shows nothing of a fleet that has everything"


@pytest.mark.parametrize("block", blocks_in("yaml"), ids=str)
def test_yaml_can_be_read(block: Block) -> None:
    included = re.fullmatch(r'--8<-- "(.+)"\s*', block.text)
    text = (ROOT / included[1]).read_text(encoding="utf-8") if included else block.text
    for found in yaml.safe_load_all(text):
        assert {"apiVersion", "kind", "metadata"} <= found.keys() or "services" in found
