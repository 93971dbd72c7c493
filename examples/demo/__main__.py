"""Migrate real conversations from their older shapes to head, verify, and read them back as their users.

    python -m examples.demo [--data FOLDER]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import psycopg
from alembic.config import Config

from alembic import command
from app import database, embedded, verification
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
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for name in ("chat_schema", "alembic.engine"):
        logging.getLogger(name).setLevel(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="chat-schema-demo-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data") as server:
            run(server, sources)


def run(server: embedded.Server, sources: Sources) -> None:
    """Do it all on ``server``."""
    config = Config(database.project_folder() / "alembic.ini")
    config.attributes.update(url=server.url().render_as_string(hide_password=False), configure_logging=False)
    libpq = server.url().set(drivername="postgresql").render_as_string(hide_password=False)

    heading(f"1. An older database: revision {OLDER}, filled from {sources.flat.name} and {sources.sessions.name}")
    command.upgrade(config, OLDER)
    with psycopg.connect(libpq) as connection:
        loaded = load(connection, sources)
        before = (value(connection, FLAT_CHECKSUM), value(connection, ARRAY_CHECKSUM))
    print(f"{loaded.users:,} users; {loaded.messages:,} flat chat_messages; {loaded.sessions:,} chat_sessions arrays")

    heading("2. alembic upgrade head")
    began = time.monotonic()
    command.upgrade(config, "head")
    seconds = time.monotonic() - began

    heading("3. chat-schema verify")
    with database.connect(server.url()) as sqlalchemy_connection:
        checks = list(verification.verify(sqlalchemy_connection, config))
    for check in checks:
        print(f"{'ok  ' if check.passed else 'FAIL'}  {check.name:<58} {check.found}")
        for problem in check.problems:
            print(f"        {problem}")

    with psycopg.connect(libpq) as connection:
        heading("4. A few threads, as their users see them under row level security")
        show_threads(connection)
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
            print(
                f'User {str(user)[:8]} sees {mine:,} of its own conversations; in "{title}" ({table}), the last lines:'
            )
            order = "created_at DESC" if table == "chat_messages" else "created_at DESC, seq DESC"
            lines = connection.execute(
                f"SELECT role, content FROM public.{table} WHERE conversation_id = %s ORDER BY {order} LIMIT 4",  # type: ignore[arg-type]
                (conversation,),
            ).fetchall()
            for role, content in reversed(lines):
                text = " ".join(content.split())
                print(f"    {role:>9}: {text[:90]}{'...' if len(text) > 90 else ''}")
            hidden = value(connection, "SELECT count(*) FROM public.conversations WHERE id = %s", others)
            print(f"    the other user's conversation, asked for by its id: {hidden} rows")
    try:
        with connection.transaction():
            connection.execute("SET LOCAL ROLE anon")
            connection.execute("SELECT count(*) FROM public.messages")
    except psycopg.errors.InsufficientPrivilege as error:
        print(f"Without a user (role anon): {error.diag.message_primary}")


def summarise(connection: psycopg.Connection, loaded: Loaded, seconds: float, passed: str, same: bool) -> None:
    """Print the figures of this run."""
    conversations = value(connection, "SELECT count(*) FROM public.conversations")
    histories = value(connection, "SELECT count(*) FROM public.conversations WHERE title = 'Chat History'")
    rows = value(connection, "SELECT count(*) FROM public.messages")
    placed = value(connection, "SELECT count(*) FROM public.chat_messages WHERE conversation_id IS NOT NULL")
    print(f"{placed:,} of {loaded.messages:,} flat messages stand in {histories:,} conversations, one a user.")
    print(f"{rows:,} of {loaded.elements:,} array elements are rows, in {loaded.sessions:,} conversations.")
    print(f"{conversations:,} conversations in all; {passed} checks passed; the upgrade took {seconds:.1f} s.")
    print(f"Every text is in the same hands with the same role as before: {'yes' if same else 'NO'} (checksums).")


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


def heading(text: str) -> None:
    """Print ``text`` so that the eye finds it."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


if __name__ == "__main__":
    main()
