"""Live updates from the database, opt-in: triggers that announce each write of a conversation or message by NOTIFY.

    python -m chat_api.notify install     # as the tables' owner (DATABASE_URL); then restart the services
    python -m chat_api.notify remove
    python -m chat_api.notify realtime    # on Supabase, instead: conversations and messages join supabase_realtime

Off by default, because a transaction that notifies holds one lock for the whole server while it commits: commits that
would have shared a flush to disk then wait for one another. `python -m chat_api.notify_cost` measures it.
"""

from __future__ import annotations

import argparse
import sys

import sqlalchemy as sa
from alembic.util import CommandError

from chat_schema import database

CHANNEL = "chat_api"

# Whoever may connect may read pg_trigger, whatever else it may not.
INSTALLED = sa.text(
    "SELECT count(*) = 2 FROM pg_trigger WHERE tgname = 'chat_api_announce' AND tgenabled <> 'D'"
    " AND tgrelid IN (to_regclass('public.conversations'), to_regclass('public.messages'))"
)

# In a schema of its own: what stands in chat_internal is chat-schema's. One text for both tables, so that a transaction
# that writes a message and thereby its conversation sends one notification: equal ones are sent once.
INSTALL = (
    "SET LOCAL lock_timeout = '2s'",
    "CREATE SCHEMA IF NOT EXISTS chat_api",
    """
    CREATE OR REPLACE FUNCTION chat_api.announce() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      owner uuid;
      conversation uuid;
    BEGIN
      IF TG_OP = 'DELETE' THEN
        owner := OLD.user_id; conversation := OLD.id;
      ELSIF TG_TABLE_NAME = 'messages' THEN
        owner := NEW.user_id; conversation := NEW.conversation_id;
      ELSE
        owner := NEW.user_id; conversation := NEW.id;
      END IF;
      PERFORM pg_catalog.pg_notify(
        'chat_api',
        pg_catalog.json_build_object(
          'user_id', owner,
          'conversation_id', conversation,
          'kind', CASE TG_OP WHEN 'DELETE' THEN 'deleted' ELSE 'changed' END
        )::text
      );
      RETURN NULL;
    END
    $$
    """,
    "REVOKE ALL ON FUNCTION chat_api.announce() FROM PUBLIC",
    "CREATE OR REPLACE TRIGGER chat_api_announce AFTER INSERT OR UPDATE OR DELETE ON public.conversations"
    " FOR EACH ROW EXECUTE FUNCTION chat_api.announce()",
    # A message that is committed after a later one moves no updated_at, so the conversation's trigger is not enough.
    "CREATE OR REPLACE TRIGGER chat_api_announce AFTER INSERT OR UPDATE ON public.messages"
    " FOR EACH ROW EXECUTE FUNCTION chat_api.announce()",
)
REMOVE = (
    "SET LOCAL lock_timeout = '2s'",
    "DROP TRIGGER IF EXISTS chat_api_announce ON public.messages",
    "DROP TRIGGER IF EXISTS chat_api_announce ON public.conversations",
    "DROP FUNCTION IF EXISTS chat_api.announce()",
    "DROP SCHEMA IF EXISTS chat_api",
)


def install(connection: sa.Connection) -> None:
    """Create the triggers, in one short transaction that waits at most two seconds for a lock."""
    _run(connection, INSTALL)


def remove(connection: sa.Connection) -> None:
    """Drop what :func:`install` created."""
    _run(connection, REMOVE)


def join_realtime(connection: sa.Connection) -> list[str]:
    """Add both tables to Supabase's publication and return those that were not in it.

    Raises :class:`alembic.util.CommandError` where the publication does not exist.
    """
    if not connection.scalar(sa.text("SELECT count(*) FROM pg_publication WHERE pubname = 'supabase_realtime'")):
        raise CommandError("There is no publication supabase_realtime here, so nothing was changed. Run `install`.")
    member = "SELECT tablename FROM pg_publication_tables WHERE pubname = 'supabase_realtime' AND schemaname = 'public'"
    joined = {"conversations", "messages"} - set(connection.scalars(sa.text(member)))
    for table in sorted(joined):
        connection.exec_driver_sql(f"ALTER PUBLICATION supabase_realtime ADD TABLE public.{table}")
    connection.commit()
    return sorted(joined)


def _run(connection: sa.Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)
    connection.commit()


def main() -> None:
    """Run the command line; exit 1 where it could not be done."""
    parser = argparse.ArgumentParser(
        prog="python -m chat_api.notify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("install", "remove", "realtime"))
    command = parser.parse_args().command
    try:
        with database.explained_errors(), database.database_url() as url, database.connect(url) as connection:
            if command == "realtime":
                joined = join_realtime(connection)
                print(f"Joined supabase_realtime: {', '.join(joined) or 'nothing, both tables were in it'}.")
            elif command == "install":
                install(connection)
                print("Installed: every write is announced. Restart the services.")
            else:
                remove(connection)
                print("Removed. Restart the services.")
    except CommandError as error:
        sys.exit(f"chat-api: {error}")


if __name__ == "__main__":
    main()
