"""Migrate real conversations from their older shapes to head, verify, and read them back as their users.

    python -m examples.demo [--data FOLDER]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from alembic.config import Config

from alembic import command
from app import database, embedded, verification
from app.engine import terminal
from examples.demo.conversations import Loaded, Sources, load

OLDER = "0021"  # the revision before conversations: flat chat_messages, arrays in chat_sessions

# The same text in the same hands? Summed over hashes, so that no order matters.
FLAT_CHECKSUM = (
    "SELECT sum(hashtextextended(id::text || user_id || role || content, 0)::numeric) FROM public.chat_messages"
)
ARRAY_CHECKSUM = """
    SELECT sum(hashtextextended(s.user_id || (e ->> 'role') || coalesce(e ->> 'content', ''), 0)::numeric)
    FROM public.chat_sessions AS s, jsonb_array_elements(s.messages) AS e
"""
ROW_CHECKSUM = "SELECT sum(hashtextextended(user_id || role || content, 0)::numeric) FROM public.messages"

MARK = re.compile(r"#{3}[A-Z_]+#{3}")  # how a simulated user of the data says that it is through


class Lines(logging.Formatter):
    """What is logged, in lines that are no wider than the rest."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message alone."""
        return terminal.filled(record.getMessage(), "", "  ")


def main() -> None:
    """Run the demo; exit 1 when a check fails."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=database.project_folder().parent / "shared" / "data",
        help="folder with ubuntu_irc.jsonl.gz and tau_bench_airline.jsonl.gz (else the small sample beside this file)",
    )
    sources = Sources.find(parser.parse_args().data)
    os.environ["COLUMNS"] = str(min(80, terminal.width()))  # bars, too, are no wider than the text
    handler = terminal.Handler(sys.stderr)
    handler.setFormatter(Lines())
    handler.addFilter(lambda record: not record.getMessage().startswith(("Database: ", "Done: ")))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for name in ("chat_schema", "alembic.engine"):
        logging.getLogger(name).setLevel(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="chat-schema-demo-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data") as server:
            run(server, sources)
            go_on(server)


def run(server: embedded.Server, sources: Sources) -> None:
    """Do it all on ``server``."""
    config = Config(database.project_folder() / "alembic.ini")
    config.attributes.update(url=server.url().render_as_string(hide_password=False), configure_logging=False)
    libpq = server.url().set(drivername="postgresql").render_as_string(hide_password=False)

    heading("1. A database as older applications left it")
    say(
        f"One application kept a flat table of messages, without conversations: chat_messages, filled from "
        f"{sources.flat.name}. Another kept each conversation as one JSON array: chat_sessions, filled from "
        f"{sources.sessions.name}."
    )
    with terminal.working("making the older tables"):
        command.upgrade(config, OLDER)
    with psycopg.connect(libpq) as connection:
        loaded = load(connection, sources)
        with terminal.working("computing checksums of every text and its owner"):
            before = (value(connection, FLAT_CHECKSUM), value(connection, ARRAY_CHECKSUM))
    say(f"{loaded.users:,} users, {loaded.messages:,} flat messages, {loaded.sessions:,} arrays.")

    heading("2. chat-schema upgrade head")
    say(
        "Each message gets a conversation of its own user, each array becomes rows. Every batch is a commit of its "
        "own, so an application could go on writing meanwhile."
    )
    began = time.monotonic()
    with terminal.working("upgrading"):
        command.upgrade(config, "head")
    seconds = time.monotonic() - began

    heading("3. chat-schema verify")
    checks = []
    with database.connect(server.url()) as sqlalchemy_connection, terminal.working("verifying"):
        for check in verification.verify(sqlalchemy_connection, config):
            checks.append(check)
            word = terminal.coloured(*(("ok  ", "green") if check.passed else ("FAIL", "bold red")), sys.stdout)
            with terminal.aside():
                print(word + terminal.filled(f"{check.name}: {check.found}", " " * 6, " " * 6)[4:])
                for problem in check.problems:
                    print(terminal.filled(problem, " " * 8, " " * 8))

    with psycopg.connect(libpq) as connection:
        heading("4. What two users see of it, under row level security")
        show_threads(connection)
        with terminal.working("computing the checksums again"):
            after = (value(connection, FLAT_CHECKSUM), value(connection, ROW_CHECKSUM))
        heading("5. What was moved and checked")
        passed = sum(check.passed for check in checks)
        summarise(connection, loaded, seconds, f"{passed} of {len(checks)}", before == after)
    if passed != len(checks) or before != after:
        raise SystemExit(1)


def show_threads(connection: psycopg.Connection) -> None:
    """Print what two users see of their own, and that each sees nothing of the other's."""
    flat = connection.execute(
        "SELECT user_id, conversation_id FROM public.chat_messages GROUP BY 1, 2 ORDER BY count(*) DESC, 1 LIMIT 1"
    ).fetchone()
    session = connection.execute(
        "SELECT user_id, conversation_id FROM public.messages GROUP BY 1, 2 ORDER BY count(*) DESC, 1 LIMIT 1"
    ).fetchone()
    connection.rollback()
    if not flat or not session:
        raise SystemExit("The files held no messages: give --data another folder.")
    for (user, conversation), table, others in ((flat, "chat_messages", session[1]), (session, "messages", flat[1])):
        with connection.transaction():
            act_for(connection, user)
            title = value(connection, "SELECT title FROM public.conversations WHERE id = %s", conversation)
            mine = value(connection, "SELECT count(*) FROM public.conversations")
            say(f'User {str(user)[:8]} has {mine:,} {noun(mine, "conversation")}. "{title}" ({table}) ends:')
            order = "created_at DESC" if table == "chat_messages" else "created_at DESC, seq DESC"
            lines = connection.execute(
                f"SELECT role, content FROM public.{table} WHERE conversation_id = %s ORDER BY {order} LIMIT 20",  # type: ignore[arg-type]
                (conversation,),
            ).fetchall()
            written = [(role, text) for role, content in lines if (text := " ".join(MARK.sub("", content).split()))]
            for role, text in reversed(written[:4]):
                line, columns = f"    {role:>9}: {text}", terminal.width()
                print(line if len(line) <= columns else f"{line[: columns - 3]}...")
            hidden = value(connection, "SELECT count(*) FROM public.conversations WHERE id = %s", others)
            say(f"It asks for the other user's conversation by its id, and gets {hidden} rows.")
            print()
    try:
        with connection.transaction():
            connection.execute("SET LOCAL ROLE anon")
            connection.execute("SELECT count(*) FROM public.messages")
    except psycopg.errors.InsufficientPrivilege as error:
        say(f"A request without a user (role anon) gets: {error.diag.message_primary}.")


def summarise(connection: psycopg.Connection, loaded: Loaded, seconds: float, passed: str, same: bool) -> None:
    """Print the figures of this run."""
    conversations = value(connection, "SELECT count(*) FROM public.conversations")
    histories = value(connection, "SELECT count(*) FROM public.conversations WHERE title = 'Chat History'")
    rows = value(connection, "SELECT count(*) FROM public.messages")
    placed = value(connection, "SELECT count(*) FROM public.chat_messages WHERE conversation_id IS NOT NULL")
    for line in (
        f"{placed:,} of {loaded.messages:,} flat messages are in {histories:,} conversations, one for each user.",
        f"{rows:,} of {loaded.elements:,} array elements are rows, in {loaded.sessions:,} conversations.",
        f"{conversations:,} conversations in all; {passed} checks passed; the upgrade took {seconds:.1f} s.",
        f"Each text has the owner and the role that it had before: {'yes' if same else 'NO'} (checksums).",
    ):
        print(terminal.filled(line, "- ", "  "))


def go_on(server: embedded.Server) -> None:
    """Say how to work with this database, and keep it while somebody at a terminal wants to."""
    heading("6. Go on with this database")
    url = server.url().set(drivername="postgresql", query={"host": server.url().query["host"]})
    address = url.render_as_string(hide_password=False).replace("%2F", "/")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        say("Run `make demo` at a terminal: the database then stays until you press Enter.")
        return
    say("The database is there until you press Enter here. In another terminal:")
    print(
        f"""
export DATABASE_URL='{address}'
.venv/bin/chat-schema status           # where it stands
.venv/bin/chat-schema downgrade {OLDER}   # back to the older shapes; rows stay
.venv/bin/chat-schema plan             # what an upgrade would do to them
.venv/bin/chat-schema upgrade head     # and here again; try Ctrl-C on the way
.venv/bin/chat-schema export --user ID # everything of one user
"""
    )
    say("Your own database: docs/adopting.md. A chat service on this schema, with a page: make chat.")
    try:
        input("Press Enter to remove the database. ")
    except (EOFError, KeyboardInterrupt):
        print()


def act_for(connection: psycopg.Connection, user: object) -> None:
    """Let the rest of this transaction run as ``user``."""
    connection.execute(
        "SELECT set_config('role', 'authenticated', true),"
        " set_config('request.jwt.claims', json_build_object('sub', %s::text)::text, true)",
        (str(user),),
    )


def value(connection: psycopg.Connection, query: str, *parameters: object) -> object:
    """Return the single value of ``query``."""
    row = connection.execute(query, parameters or None).fetchone()  # type: ignore[arg-type]
    return row[0] if row else None


def noun(count: object, word: str) -> str:
    """Return ``word`` as ``count`` wants it."""
    return word if count == 1 else f"{word}s"


def say(text: str) -> None:
    """Print a paragraph."""
    print(terminal.filled(text, "", ""), flush=True)


def heading(text: str) -> None:
    """Print ``text`` so that the eye finds it."""
    print(f"\n{terminal.coloured(text, 'bold', sys.stdout)}\n{'-' * len(text)}", flush=True)


if __name__ == "__main__":
    main()
