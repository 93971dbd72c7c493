"""``chat-schema``: Alembic's command line on this package's revisions, and commands of its own."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import shlex
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa
from alembic.config import CommandLine, Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

import alembic
from alembic import command

from . import command_help, database, retention, verification, waiting
from . import embedded as embedded_server
from .destination import refuse_no_revision
from .engine import control, deployments, terminal
from .engine.json_log import as_line
from .engine.progress import Progress
from .options import Options
from .output import checked_output
from .project import PROJECT, VERSIONS
from .version_table import refuse_strangers


def plan(config: Config, to: str = "head", as_json: bool = False) -> None:
    """Show what an upgrade, or a downgrade, would do to this database and what would stop it; exit 2 if anything would.

    A database that is not ours yet is rehearsed on, as the upgrade does first; ``-x rehearse=no`` leaves it out.
    """
    from . import plan as planning
    from .engine import plan as engine
    from .engine.obstacles import Obstacle
    from .engine.plan_text import told
    from .engine.server import UnfitServerError

    script = ScriptDirectory.from_config(config)
    refuse_no_revision(script, to)
    where = ""
    try:
        if _is_ours(script):
            options = Options.parse(_x_arguments(config))
            with _connected(config, whoever_owns_it=True) as connection:
                planned = planning.make(connection, script, to, options)
                where = database.described(connection)
        else:
            with database.explained_errors():
                planned = engine.of_project(config, to, engine.Hooks(refuses=planning.refuses))
    except UnfitServerError as unfit:
        planned = engine.Plan(current="", target=to, would_stop=[Obstacle(str(unfit))])
    print(json.dumps(planned.as_json(where or None), indent=1) if as_json else told(planned, PROJECT.default_schema))
    if planned.would_stop:
        if not as_json:
            _next("mend what is in the way, then run `chat-schema plan` again.")
        raise SystemExit(2)
    if planned.revisions and not as_json:
        _next(f"`chat-schema {planned.direction} {to}` does it; it can be killed and run again at any point.")


def _x_arguments(config: Config) -> dict[str, str]:
    given = getattr(config.cmd_opts, "x", None) or []
    return {name: value for name, _, value in (each.partition("=") for each in given)}


def verify(config: Config, as_json: bool = False, keep: Sequence[str] | None = None) -> None:
    """Check that the database is at head, catalog, roles and data as expected; exit 1 if not."""
    with _connected(config) as connection:
        for name in verification.keep(connection, keep) if keep else ():
            print(f"kept as yours: {name}", file=sys.stderr if as_json else sys.stdout)
        checks = []
        for check in verification.verify(connection, config):
            checks.append(check)
            if not as_json:
                _report(check)
        where = database.described(connection)
    failed = sum(not check.passed for check in checks)
    if as_json:
        document = {
            "version": 1,  # of this format
            "database": where,
            "revision": checks[0].found,
            "passed": not failed,
            "checks": [check.as_json() for check in checks],
        }
        print(json.dumps(document, indent=1))
    elif failed:
        print(terminal.coloured(f"Verification failed: {failed} of the checks above.", "bold red", sys.stdout))
        _next("do what stands under each, then run `chat-schema verify` again.")
    else:
        print(terminal.coloured("Verified: the database is what the package expects.", "bold green", sys.stdout))
    if failed:
        raise SystemExit(1)


def _report(check: verification.Check) -> None:
    """Print a check in one line, and below it what is wrong and what is worth knowing."""
    word = terminal.coloured(*(("ok  ", "green") if check.passed else ("FAIL", "bold red")), sys.stdout)
    row = f"  {check.name:<58} {check.found}"
    if sys.stdout.isatty() and len(row) + 4 > terminal.width():
        row = terminal.filled(f"{check.name}: {check.found}", " " * 6, " " * 6)[4:]
    print(word + row)
    for line in (*check.problems, *(f"warning: {each}" for each in check.warnings), *check.notes):
        print("        " + line.replace("\n", "\n        "))


def lint(config: Config, files: Sequence[str] = (), ignore: Sequence[str] | None = None, as_json: bool = False) -> None:
    """Check revisions for what would stop clients or lose rows; exit 1 if anything is found, each with its recipe."""
    from . import operations  # noqa: F401  what revisions may call; other commands need neither
    from .engine import lint as linter

    found = linter.lint(config, files, ignore or (), Options())
    if as_json:
        print(json.dumps({"version": 1, "findings": [each.as_json() for each in found]}, indent=1))
    else:
        for each in found:
            print(each)
        print(f"{len(found)} finding{'s' * (len(found) > 1)}." if found else "Nothing was found.")
    if found:
        raise SystemExit(1)


def status(config: Config, as_json: bool = False, watch: bool = False) -> None:
    """Show where the database stands, what a deployment does there and what it waits for; --watch: once a second."""
    head = ", ".join(ScriptDirectory.from_config(config).get_heads()) or None
    with _deployments(config) as all_of, suppress(KeyboardInterrupt) if watch else nullcontext():
        for told in deployments.told(all_of, head, as_json=as_json, watch=watch):
            print(told, flush=True)


def stats(config: Config, as_json: bool = False) -> None:
    """Show size, dead rows, bloat, vacuums and scans of each table; missing and unused indexes; oldest transactions."""
    from .stats import stats as read

    with _connected(config) as connection:
        found = read(connection)
        where = database.described(connection)
    if as_json:
        print(json.dumps({"version": 1, "database": where, **found.as_json()}, indent=1))
    else:
        for line in found.lines():
            print(line)


def pause(config: Config) -> None:
    """Pause the deployment that runs, and each that is started, until `chat-schema resume`; clients notice nothing."""
    with _deployments(config) as all_of:
        for each in all_of:
            print(each.pause())


def resume(config: Config) -> None:
    """Let a paused deployment go on."""
    with _deployments(config) as all_of:
        for each in all_of:
            print(each.resume())


def throttle(config: Config, share: str) -> None:
    """Let backfills work a share of the time, in percent, one worker at a time; `off` takes it back."""
    percent = control.percent(share)
    with _deployments(config) as all_of:
        for each in all_of:
            print(each.throttle(percent))


@contextmanager
def _deployments(config: Config) -> Iterator[list[deployments.Deployments]]:
    """Yield those of our chain, or of the project that -c names."""
    if _is_ours(ScriptDirectory.from_config(config)):
        with _connected(config) as connection:
            yield [deployments.Deployments(connection, VERSIONS, PROJECT, "chat-schema")]
        return
    with database.explained_errors(), deployments.of_project(config, _words(config)) as all_of:
        yield all_of


def _is_ours(script: ScriptDirectory) -> bool:
    return Path(script.dir).resolve() == (database.project_folder() / "alembic").resolve()


def _words(config: Config) -> str:
    """Return the beginning of this command, as it is typed for another one on the same project."""
    given = getattr(config.cmd_opts, "config", None) or ()
    files = [word for file in given for word in ("-c", str(file))]
    section = ["-n", config.config_ini_section] if config.config_ini_section != "alembic" else []
    return shlex.join(["chat-schema", *files, *section])


def purge(config: Config, older_than: int | None = None, batch_size: int = 500, dry_run: bool = False) -> None:
    """Delete what the retention rules say may go, and creative sessions that ended long ago."""
    with _connected(config) as connection:
        for due in retention.lists(connection):
            found = retention.count(connection, due)
            if found.rows:
                batches = (len(each.ids) for each in _printed(retention.purge(connection, due, batch_size)))
                _purge(f"{found.rows:,} {due.what} with {found.messages:,} messages", found.rows, batches, dry_run)
        before = retention.sessions_before(connection, older_than)
        found = retention.count_sessions(connection, before)
        what = f"{found.rows:,} sessions with {found.messages:,} messages, ended before {before:%Y-%m-%d %H:%M}"
        _purge(what, found.rows, retention.purge_sessions(connection, before, batch_size), dry_run)
    if dry_run:
        _next("`chat-schema purge` deletes them.")


def _printed(batches: Iterator[retention.Purged]) -> Iterator[retention.Purged]:
    """Print the storage keys of a batch before it is committed: afterwards nobody knows them."""
    for batch in batches:
        for key in batch.storage_keys:
            print(f"storage key {key}")
        sys.stdout.flush()
        yield batch


def _purge(what: str, found: int, batches: Iterator[int], dry_run: bool) -> None:
    if dry_run:
        print(f"Would delete {what}.")
        return
    progress = Progress("purge", found, unit="rows")
    deleted = 0
    try:
        for count in batches:
            deleted += count
            progress.advance(count, count)
    finally:
        progress.close()
    left = found - deleted
    print(f"Deleted {deleted:,} of {what}." + (f" {left:,} were in use: run it again." if left > 0 else ""))


def export(config: Config, user: UUID | None = None, output: str | None = None) -> None:
    """Write everything of a user as JSON Lines: the manifest, then each row of each table."""
    from . import handover

    asked = _asked(user, "export")
    with _connected(config) as connection:
        lines = handover.export(connection, asked)
        if output is None:
            for line in lines:
                print(line)
            return
        file = Path(output)
        part = file.with_name(file.name + ".part")
        with _written(file):
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
                rows = sum(out.write(line + "\n") > 0 for line in lines) - 1
            part.replace(file)
        print(f"Wrote {rows:,} {'row' if rows == 1 else 'rows'} of user {asked} to {file}.")
        _next(f"`chat-schema import {file}` reads it into another database.")


def import_(config: Config, file: str, with_tenants: bool = False) -> None:
    """Read an export into this database, under the same ids; what is here already stays as it is."""
    from . import handover

    with _connected(config) as connection:
        done = handover.read_in(connection, Path(file), with_tenants=with_tenants)
    for table, rows in done.rows.items():
        if rows:
            print(f"{table:<24} {done.new[table]:>9,} of {rows:,} rows were new")
    print(f"Imported user {done.user}.")
    _next("`chat-schema verify` checks the database.")


import_.__name__ = "import"


def erase(config: Config, user: UUID | None = None, dry_run: bool = False) -> None:
    """Remove a user with everything it owns, and say what that was and where bytes of attachments are left."""
    from . import handover

    asked = _asked(user, "erase")
    with _connected(config) as connection:
        handover.lock(connection, asked)
        counts = handover.owned_rows(connection, asked)
        for key in handover.storage_keys(connection, asked):  # before the commit: afterwards nobody knows them
            print(f"storage key {key}")
        sys.stdout.flush()
        if dry_run:
            connection.rollback()
            what = "Would remove"
        else:
            done = handover.erase(connection, asked)
            connection.commit()
            counts, what = dict(done.rows), "Removed"
        for name, count in counts.items():
            print(f"{what.lower()} {count:,} {name}")
        print(
            f"{what} user {asked}."
            + (" The bytes at the storage keys are yours to remove." if "attachments" in counts else "")
        )
        if not dry_run:
            for tenant in done.empty_tenants:
                print(f"Tenant {tenant} has no member any more.")
            if done.account:
                print("The account in auth.users stands: delete it in the platform, or it will be mirrored again.")
        else:
            _next(f"`chat-schema erase --user {asked}` removes them; `export` first keeps a copy.")


def rotate_keys(config: Config, batch_size: int = 500) -> None:
    """Encrypt stored keys of model providers anew with the first key of CHAT_SCHEMA_PROVIDER_KEYS."""
    from . import provider_keys

    try:
        ring = provider_keys.KeyRing.from_environment()
        ring.encrypt(UUID(int=0), "", "")  # whether it can
    except provider_keys.KeyRingError as error:
        raise CommandError(f"Nothing was rotated: {error}") from None
    rotated, unreadable = 0, 0
    with _connected(config) as connection:
        if connection.scalar(sa.text("SELECT to_regclass('public.user_llm_providers')")) is None:
            raise CommandError("This database has no keys of providers yet: run `chat-schema upgrade head` first.")
        connection.rollback()
        progress = Progress("rotate-keys", provider_keys.count_to_rotate(connection, ring), unit="keys")
        try:
            for done in provider_keys.rotate(connection, ring, batch_size):
                rotated += done.rotated
                for reason in done.unreadable[: max(0, 5 - unreadable)]:
                    print(f"chat-schema: {reason}", file=sys.stderr)
                unreadable += len(done.unreadable)
                progress.advance(done.rotated, done.rotated)
        finally:
            progress.close()
        left = provider_keys.count_to_rotate(connection, ring) - unreadable
    print(
        f"Encrypted {rotated:,} keys anew with {ring.current!r}."
        + (f" {left:,} were in use: run it again." * (left > 0))
    )
    if unreadable:
        raise CommandError(f"{unreadable:,} keys could not be read and stay as they were: keep the older keys.")


rotate_keys.__name__ = "rotate-keys"


def _asked(user: UUID | None, command: str) -> UUID:
    if user is None:
        raise CommandError(f"Nothing was done: say whose rows, as in `chat-schema {command} --user ID`.")
    return user


@contextmanager
def _written(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(
            f"{file} was not written: {error}\nName a file that you may write, as in --output FILE."
        ) from None


def wait(config: Config, awaited: str = "head", timeout: float = 600.0, or_newer: bool = False) -> None:
    """Wait until the database is at a revision, as an init container does; exit 1 when it is not in time.

    It needs the login of a service, not one that may migrate, and the server need not run yet.
    """
    if config.attributes.get("url") is None and os.environ.get("DATABASE_URL") is None:
        raise CommandError(
            "DATABASE_URL is unset, so there is nothing to wait for: the embedded server runs for the command that "
            "uses it, and no longer. Set it to the address that the service has."
        )
    with database.explained_errors(), database.database_url(config.attributes.get("url")) as url:
        _tell(f"Database: {database.shown(url.set(drivername='postgresql'))}")
        found = waiting.wait(url, awaited, timeout, _tell, or_newer=or_newer)
    print(f"The database is at revision {found}.")


def _tell(text: str) -> None:
    """Say it at once, in the log of whatever started this."""
    with terminal.aside(), suppress(OSError):  # nobody may be reading
        print(text, file=sys.stderr, flush=True)


def _next(text: str) -> None:
    """Say what comes next: beside the output, which may be for a program."""
    line = terminal.filled(f"Next: {text}", "", "      ") if sys.stderr.isatty() else f"Next: {text}"
    _tell(terminal.coloured("Next:", "bold", sys.stderr) + line.removeprefix("Next:"))


def sql(config: Config, split: str | None = None) -> None:
    """Write the upgrade as SQL, one numbered file a revision, for a tool that runs a folder of them in order."""
    if not split:
        raise CommandError("Nothing was written: say where, as in `chat-schema sql --split supabase/migrations`.")
    folder = Path(split)
    with _written_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    config.attributes["configure_logging"] = False
    below = "base"
    for place, revision in enumerate(reversed(list(ScriptDirectory.from_config(config).walk_revisions())), start=1):
        config.output_buffer = io.StringIO()
        command.upgrade(config, f"{below}:{revision.revision}" if place > 1 else revision.revision, sql=True)
        file = folder / f"{place:04}_{Path(revision.path).stem.partition('_')[2]}.sql"
        with _written_to(folder):
            file.write_text(config.output_buffer.getvalue(), "utf-8")
        print(file)
        below = revision.revision
    _next("have your tool run the files in their order, each in a transaction.")


@contextmanager
def _written_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(
            f"The files were not all written to {folder}: {error}\nName a folder that you may write to, as in "
            "`chat-schema sql --split supabase/migrations`."
        ) from None


def embedded(config: Config, remove: str | None = None) -> None:
    """List the data of the embedded server: this project's, and for root all that lie in /var/lib; or remove some."""
    data_dir = database.embedded_data_dir()
    try:
        existing = embedded_server.existing(data_dir)
        if remove is None:
            for data in existing:
                print(f"{data.folder}  of {data.project}" + (", left behind" if data.is_left_behind else ""))
            if not existing:
                print(f"None yet: the first command without DATABASE_URL makes {data_dir}.")
            return
        for data in existing:
            if os.path.realpath(remove) == os.path.realpath(data.folder):
                embedded_server.remove(data)
                print(f"Removed {data.folder}.")
                return
    except embedded_server.EmbeddedServerError as error:
        raise CommandError(str(error)) from error
    raise CommandError(
        f"{remove} is none of the embedded server's, so nothing was removed. `chat-schema embedded` lists what is."
    )


@contextmanager
def _connected(config: Config, whoever_owns_it: bool = False) -> Iterator[sa.Connection]:
    with (
        database.explained_errors(),
        _working(config),
        database.database_url(config.attributes.get("url")) as url,
        database.connect(url) as connection,
    ):
        _tell(f"{terminal.coloured('Database:', 'bold', sys.stderr)} {database.described(connection)}")
        if not whoever_owns_it:
            refuse_strangers(connection)
            connection.rollback()
        yield connection


def _working(config: Config) -> AbstractContextManager[None]:
    """Show that the command works while it says nothing; one that watches says something each second."""
    if getattr(config.cmd_opts, "watch", False):
        return nullcontext()
    command = getattr(config.cmd_opts, "cmd", None)  # not where Python calls the function
    return terminal.working(f"chat-schema {command[0].__name__}" if command else "chat-schema")


def _natural(text: str) -> int:
    """Read a whole number that the server can count days and rows by; argparse turns the error into its message."""
    if not text.isdecimal() or len(text) > 6 or not 1 <= int(text) <= 100_000:
        raise ValueError(text)
    return int(text)


def _user(text: str) -> UUID:
    return UUID(text)


_user.__name__ = "user id (uuid)"  # as below


_natural.__name__ = "whole number from 1 to 100,000"  # argparse names the type in its message


def _seconds(text: str) -> float:
    """Read a duration; argparse turns the error into its message."""
    found = re.fullmatch(r"(\d{1,5})(s|m|min|h)", text)
    if found is None:
        raise ValueError(text)
    return int(found[1]) * {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}[found[2]]


_seconds.__name__ = "duration such as 30s, 10m or 1h,"


class _CommandLine(CommandLine):
    """Alembic's command line, on this package's revisions from whichever folder it is called."""

    _KWARGS_OPTS = {  # noqa: RUF012  the base class declares it so
        **CommandLine._KWARGS_OPTS,
        "older_than": (
            "--older-than",
            {
                "type": _natural,
                "metavar": "DAYS",
                "help": "days since a session ended (default: as the rule says, else 90)",
            },
        ),
        "batch_size": (
            "--batch-size",
            {"type": _natural, "default": 500, "metavar": "N", "help": "rows changed per commit (default: 500)"},
        ),
        "as_json": (
            "--json",
            {"action": "store_true", "dest": "as_json", "help": "print the report as one JSON document"},
        ),
        "keep": (
            "--keep",
            {
                "action": "append",
                "metavar": "IDENTITY",
                "help": "record what is reported by this name as your own (repeatable)",
            },
        ),
        "awaited": (
            "--for",
            {"dest": "awaited", "default": "head", "metavar": "REV", "help": "the revision, or head (default: head)"},
        ),
        "timeout": (
            "--timeout",
            {"type": _seconds, "default": 600.0, "metavar": "TIME", "help": "30s, 10m or 1h (default: 10m)"},
        ),
        "or_newer": (
            "--or-newer",
            {"action": "store_true", "help": "be content with a revision that a newer chat-schema has made"},
        ),
        "ignore": (
            "--ignore",
            {
                "action": "append",
                "metavar": "RULE",
                "help": "do without a rule (repeatable)",
            },
        ),
        "files": (
            "files",
            {"nargs": "*", "help": "files, revisions or ranges as 0030:head (default: the whole chain)"},
        ),
        "to": ("to", {"nargs": "?", "default": "head", "metavar": "REVISION", "help": "where to (default: head)"}),
        "split": ("--split", {"metavar": "DIR", "help": "the folder to write the files to"}),
        "remove": ("--remove", {"metavar": "DIR", "help": "delete these data"}),
        "user": ("--user", {"type": _user, "metavar": "ID", "help": "the user's id"}),
        "output": ("--output", {"metavar": "FILE", "help": "the file to write (default: standard output)"}),
        "with_tenants": (
            "--with-tenants",
            {"action": "store_true", "help": "read in tenants and memberships too: trust the file for that"},
        ),
        "watch": ("--watch", {"action": "store_true", "help": "show it anew each second, until Ctrl-C"}),
        "dry_run": ("--dry-run", {"action": "store_true", "help": "only count what would be deleted"}),
    }

    _POSITIONAL_OPTS = {  # noqa: RUF012  the base class declares it so
        **CommandLine._POSITIONAL_OPTS,
        "file": {"metavar": "FILE", "help": "an export"},
        "share": {"metavar": "SHARE", "help": "percent of the time that a backfill works, 1 to 100, or off"},
    }

    def __init__(self) -> None:
        super().__init__(prog="chat-schema")
        own = (plan, lint, verify, wait, status, stats, pause, resume, throttle, purge, sql, embedded)
        for command_ in (*own, export, import_, erase, rotate_keys):
            self.register_command(command_)
        _add_options_of_a_run(self.parser, None)
        for name in ("upgrade", "downgrade"):
            _add_options_of_a_run(self.subparsers.choices[name], SUPPRESS)
        for action in self.parser._actions:
            if action.dest == "version":  # Alembic's speaks of Alembic alone
                action.version = _version()  # type: ignore[attr-defined]
        command_help.arrange(self.parser, self.subparsers)

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Run a command on this package's configuration; no other file is looked for, in the current folder or else."""
        options = self.parser.parse_args(argv)
        if not hasattr(options, "cmd"):
            self.parser.error("too few arguments")
        for name in ("log-format", "metrics"):
            if (said := getattr(options, name.replace("-", "_"))) is not None:
                options.x = [*(options.x or []), f"{name}={said}"]
        given = options.config or [database.project_folder() / "alembic.ini"]
        toml = [file for file in given if Path(file).name == "pyproject.toml"]
        ini = [file for file in given if file not in toml]
        missing = [str(file) for file in given if not Path(file).is_file()]
        if missing:
            self.parser.error(f"argument -c/--config: there is no file {', '.join(missing)}")
        if len(toml) > 1 or len(ini) > 1:
            self.parser.error("argument -c/--config: one file of each kind can be given")
        config = Config(
            file_=ini[0] if ini else None,
            toml_file=toml[0] if toml else None,
            ini_section=options.name,
            stdout=sys.stdout,
            cmd_opts=options,
        )
        self.run_cmd(config, options)

    def run_cmd(self, config: Config, options: Namespace) -> None:
        try:
            options.raiseerr, raise_it = True, options.raiseerr
            _refuse_to_write_into_the_package(options.cmd[0].__name__)
            _refuse_no_revision(config, options)
            super().run_cmd(config, options)
        except CommandError as error:
            if raise_it:
                raise
            if getattr(options, "log_format", None) == "json":
                print(as_line("ERROR", "chat_schema", str(error)), file=sys.stderr)
            else:
                print(f"chat-schema: {error}", file=sys.stderr)
            raise SystemExit(getattr(error, "status", 1)) from None
        except KeyboardInterrupt:
            print("chat-schema: interrupted; what was committed stays, run it again to go on.", file=sys.stderr)
            raise SystemExit(130) from None


def _add_options_of_a_run(parser: ArgumentParser, default: str | None) -> None:
    """Take these before the command and behind it; they are the options of -x with the same name."""
    parser.add_argument("--log-format", choices=["plain", "json"], default=default, help="json: one object a line")
    parser.add_argument(
        "--metrics", metavar="FILE", default=default, help="write for Prometheus, once a second, how far the run is"
    )


def _version() -> str:
    try:
        ours = importlib.metadata.version("chat-schema")
    except importlib.metadata.PackageNotFoundError:
        ours = "of a checkout that is not installed"
    return f"chat-schema {ours} (Alembic {alembic.__version__})"


def _refuse_to_write_into_the_package(name: str) -> None:
    folder = database.project_folder()
    if name in ("init", "revision", "merge", "edit") and folder.name == "chain":
        raise CommandError(
            f"`{name}` writes into the chain of chat-schema. Here that is part of an installed package ({folder}), so "
            "nothing was written: the next installation would remove it. Tables of your own have a chain of their "
            "own (`alembic init`); a revision of chat-schema is written in a checkout of it."
        )


def _refuse_no_revision(config: Config, options: Namespace) -> None:
    one = (getattr(options, name, None) for name in ("revision", "rev"))
    for text in (*one, *(getattr(options, "revisions", None) or ())):
        if text is not None:
            refuse_no_revision(ScriptDirectory.from_config(config), text)
    if (getattr(options, "rev_range", None) or ":").count(":") != 1:
        raise CommandError("A range of revisions is two names with one : between them, as in 0017:head.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 0 on success, 1 when it could not be done, 2 for a call that does not parse."""
    with checked_output():
        _CommandLine().main(arguments)
