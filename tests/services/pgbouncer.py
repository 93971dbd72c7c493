"""A real PgBouncer, in transaction mode unless told otherwise: five server connections for any number of clients."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from app import unprivileged

SERVER_CONNECTIONS = 5
PORT = 6432


def program() -> str | None:
    """Return where PgBouncer is installed, or None."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def pooled(url: sa.URL, mode: str = "transaction") -> Iterator[sa.URL]:
    """Yield an address that leads to the login and database of ``url`` by way of a PgBouncer of its own."""
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir="/tmp"))
    account = unprivileged.account_for(folder / "none")  # PgBouncer refuses to run as root
    unprivileged.hand_over(folder, account)
    (folder / "users").write_text(f'"{url.username}" ""\n')
    (folder / "ini").write_text(
        f"""
        [databases]
        {url.database} = host={url.query["host"]} port={url.query["port"]} dbname={url.database}
        [pgbouncer]
        pool_mode = {mode}
        default_pool_size = {SERVER_CONNECTIONS}
        max_client_conn = 1000
        auth_type = trust
        auth_file = {folder}/users
        listen_addr =
        listen_port = {PORT}
        unix_socket_dir = {folder}
        logfile = {folder}/log
        """.replace("\n        ", "\n")
    )
    for file in ("users", "ini"):
        (folder / file).chmod(0o644)
    arguments = unprivileged.run_as(account)
    del arguments["check"]
    bouncer = subprocess.Popen([str(program()), "-q", folder / "ini"], **arguments)
    try:
        _wait_for(folder / f".s.PGSQL.{PORT}", bouncer, folder / "log")
        yield url.set(query={"host": str(folder), "port": str(PORT)})
    finally:
        bouncer.terminate()
        bouncer.wait(timeout=10)
        shutil.rmtree(folder)


def _wait_for(path: Path, bouncer: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            return
        if bouncer.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"PgBouncer did not start:\n{log.read_text() if log.exists() else ''}")
