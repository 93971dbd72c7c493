"""Programs that refuse to run as root, run for root: as which account, and where that account can read.

The account is the owner of what the program works on, else ``nobody``. No owner or mode of an existing folder
is changed to let it through. What it cannot reach is put under ``/var/lib/chat-schema``, which root alone can
write to, and not in the system's temporary folder, whose clean-up would take single files out of it.

Everybody else simply is who they are: the account is then None, and reaches everything.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path("/var/lib/chat-schema")


@dataclass(frozen=True)
class Account:
    """Whom root's programs run as."""

    uid: int
    gid: int


def account_for(path: Path) -> Account | None:
    """Return the account for programs that work on ``path``, which need not exist; None if not root."""
    if os.geteuid() != 0:
        return None
    if path.exists() and (owner := path.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def run_as(account: Account | None) -> dict[str, Any]:
    """Return arguments of ``subprocess.run`` for a program of ``account``, in a folder that all can enter."""
    arguments: dict[str, Any] = {"cwd": "/", "stdin": subprocess.DEVNULL, "check": False}
    if account is not None:
        arguments |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return arguments


def hand_over(folder: Path, account: Account | None) -> None:
    """Give a folder that we have just made to ``account``."""
    if account is not None:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)


def reaches(account: Account | None, path: Path) -> bool:
    """Tell whether ``account`` may go through the folder, or execute the program, at ``path``."""
    return account is None or holds(account, '[ -x "$1" ]', path)


def holds(account: Account | None, condition: str, *arguments: str | Path) -> bool:
    """Tell whether a condition of the shell, which PATH has no part in, holds for ``account``."""
    return subprocess.run(["/bin/sh", "-c", condition, "sh", *arguments], **run_as(account)).returncode == 0


def make_folder(folder: Path, account: Account | None) -> None:
    """Make ``folder`` and its parents where missing; ``account`` can go through them under any umask."""
    if not folder.exists():
        make_folder(folder.parent, account)
        folder.mkdir(exist_ok=True)
        if account is not None:
            folder.chmod(0o755)


def installation_for(account: Account, bin_dir: Path) -> Path:
    """Return ``bin_dir``, or its counterpart in a copy of its package where ``account`` cannot reach it.

    Raises PermissionError when somebody else than root can write to :data:`FOLDER`.
    """
    program = bin_dir / "postgres"
    if reaches(account, program):
        return bin_dir
    prefix, package = bin_dir.parents[0], bin_dir.parents[1]
    version = program.stat()
    copy = FOLDER / _digest(bin_dir, version.st_mtime_ns, version.st_size)
    with _locked(root_folder()):
        if not copy.exists():
            new = copy.with_suffix(".new")  # renamed when whole, as we can be killed at any point
            shutil.rmtree(new, ignore_errors=True)
            shutil.copytree(prefix, new / package.name / prefix.name)
            libraries = package.with_name(f"{package.name}.libs")  # where wheels keep the libraries they bring
            if libraries.is_dir():
                shutil.copytree(libraries, new / libraries.name)
            for path in (new, *new.rglob("*")):
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
            new.rename(copy)
    return copy / package.name / prefix.name / bin_dir.name


def root_folder() -> Path:
    """Make and return :data:`FOLDER`; raises PermissionError when somebody else than root can write to it."""
    make_folder(FOLDER, account_for(FOLDER))
    found = FOLDER.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise PermissionError(f"{FOLDER} is not a folder that root alone can write to; look at it and remove it")
    return FOLDER


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
