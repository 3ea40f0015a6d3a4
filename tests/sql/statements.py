"""Read SQL files of named statements: `-- name: KEY`, comments for people, and then one statement up to a semicolon."""

import re
from pathlib import Path

SQL_DIR = Path(__file__).parents[2] / "sql"
_NAME = re.compile(r"^-- name: ([a-z0-9-]+)$", re.MULTILINE)


def named_statements(path: Path) -> dict[str, str]:
    """Give the statements of a file by their names; what stands before the first name belongs to none."""
    parts = _NAME.split(path.read_text(encoding="utf-8"))
    found = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        statement = "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip()
        assert statement.endswith(";"), f"{name} does not end with a semicolon"
        assert statement.count(";") == 1, f"{name} is more than one statement"
        assert name not in found, f"{name} stands twice"
        found[name] = statement.removesuffix(";")
    return found
