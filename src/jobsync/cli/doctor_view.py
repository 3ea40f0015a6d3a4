"""What people see of an examination."""

from rich.console import Console
from rich.text import Text

from jobsync.api.doctor import Diagnosis
from jobsync.cli.shared import count, shown

STYLES = {"ok": "green", "note": "cyan", "problem": "bold red"}
INDENT = " " * 12


def show_diagnosis(console: Console, found: Diagnosis) -> None:
    """Write a line a finding, the remedy below it."""
    for finding in found.findings:
        line = Text.assemble((f"{finding.level:8}", STYLES[finding.level]), f"{finding.check:12}", shown(finding.text))
        console.print(line, soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"{INDENT}-> {shown(finding.remedy)}", style="bold"), soft_wrap=True)
    problems = sum(finding.level == "problem" for finding in found.findings)
    word = count(problems, "problem") if problems else "all is well"
    console.print()
    console.print(Text(f"{word}: {found.where}, tables {found.appname}*"), soft_wrap=True)
