"""Live updates from the database, opt-in: triggers that announce each write of a conversation or message by NOTIFY.

    python -m chat_api.notify install     # as the tables' owner (DATABASE_URL); then restart the services
    python -m chat_api.notify remove
    python -m chat_api.notify realtime    # on Supabase, instead: conversations and messages join supabase_realtime

Every role that may connect may LISTEN. So a notification holds a number and nothing else; what was written stands under
that number in chat_api.changes, which service_role alone reads.

Off by default, because a transaction that notifies holds one lock for the whole server while it commits: commits that
would have shared a flush to disk then wait for one another. `python -m chat_api.notify_cost` measures it.
"""

from __future__ import annotations

import argparse
import sys

import sqlalchemy as sa
from alembic.util import CommandError

from chat_schema import database
from chat_schema.roles import Roles, recorded_roles

CHANNEL = "chat_api"

# Whoever may connect may read the catalog, whatever else it may not.
INSTALLED = sa.text(
    "SELECT count(*) = 3 FROM ("
    " SELECT FROM pg_catalog.pg_trigger WHERE tgname = 'chat_api_announce' AND tgenabled <> 'D'"
    " AND tgrelid IN (to_regclass('public.conversations'), to_regclass('public.messages'))"
    " UNION ALL SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE n.nspname = 'chat_api' AND c.relname = 'changes') AS parts"
)
CHANGES = sa.text(
    "SELECT DISTINCT user_id, conversation_id, kind FROM chat_api.changes"
    " WHERE transaction = ANY (CAST(CAST(:numbers AS text[]) AS xid8[])) ORDER BY kind"
)
# A change that every listener has had time to read: its transaction had ended when the horizon was drawn, a while ago.
SWEEP = sa.text("DELETE FROM chat_api.changes WHERE transaction < CAST(CAST(:horizon AS text) AS xid8)")
HORIZON = sa.text("SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text")

# In a schema of its own: what stands in chat_internal is chat-schema's. The trigger runs as whoever writes, and a role
# that has no part in this (one that deletes accounts, say) writes unannounced rather than not at all.
INSTALL = (
    "SET LOCAL lock_timeout = '2s'",
    "CREATE SCHEMA IF NOT EXISTS chat_api",
    "REVOKE ALL ON SCHEMA chat_api FROM PUBLIC, {anon}",
    "GRANT USAGE ON SCHEMA chat_api TO {authenticated}, {service_role}",
    "DROP TABLE IF EXISTS chat_api.changes",
    """
    CREATE UNLOGGED TABLE chat_api.changes (
      transaction pg_catalog.xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
      conversation_id pg_catalog.uuid NOT NULL,
      kind pg_catalog.text NOT NULL,
      user_id pg_catalog.uuid NOT NULL,
      PRIMARY KEY (transaction, conversation_id, kind),
      CONSTRAINT ck_changes_kind CHECK (kind IN ('changed', 'deleted'))
    )
    """,
    "ALTER TABLE chat_api.changes ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY changes_insert_own ON chat_api.changes FOR INSERT TO {authenticated} WITH CHECK ("
    "user_id = (SELECT chat_internal.current_user_id()) AND transaction = (SELECT pg_catalog.pg_current_xact_id()))",
    "CREATE POLICY changes_service ON chat_api.changes TO {service_role} USING (true) WITH CHECK (true)",
    "REVOKE ALL ON chat_api.changes FROM PUBLIC, {anon}, {authenticated}, {service_role}",
    "GRANT INSERT ON chat_api.changes TO {authenticated}",
    "GRANT SELECT, INSERT, DELETE ON chat_api.changes TO {service_role}",
    """
    CREATE OR REPLACE FUNCTION chat_api.announce() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      owner uuid;
      conversation uuid;
    BEGIN
      IF NOT pg_catalog.has_schema_privilege('chat_api', 'USAGE') THEN
        RETURN NULL;
      END IF;
      IF TG_OP = 'DELETE' THEN
        owner := OLD.user_id; conversation := OLD.id;
      ELSIF TG_TABLE_NAME = 'messages' THEN
        owner := NEW.user_id; conversation := NEW.conversation_id;
      ELSE
        owner := NEW.user_id; conversation := NEW.id;
      END IF;
      INSERT INTO chat_api.changes (conversation_id, kind, user_id)
      VALUES (conversation, CASE TG_OP WHEN 'DELETE' THEN 'deleted' ELSE 'changed' END, owner)
      ON CONFLICT DO NOTHING;
      PERFORM pg_catalog.pg_notify('chat_api', pg_catalog.pg_current_xact_id()::text);  -- equal ones are sent once
      RETURN NULL;
    END
    $$
    """,
    "REVOKE ALL ON FUNCTION chat_api.announce() FROM PUBLIC, {anon}, {authenticated}, {service_role}",
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
    "DROP TABLE IF EXISTS chat_api.changes",
    "DROP SCHEMA IF EXISTS chat_api",
)


def install(connection: sa.Connection) -> None:
    """Create table and triggers, or replace those that are there, in one transaction that waits two seconds for a lock.

    Raises :class:`alembic.util.CommandError` where somebody else owns a schema chat_api, and could read what is written
    there.
    """
    foreign = sa.text(
        "SELECT n.nspowner NOT IN (current_user::regrole, c.relowner) FROM pg_namespace AS n, pg_class AS c"
        " WHERE n.nspname = 'chat_api' AND c.oid = 'public.conversations'::regclass"
    )
    if connection.scalar(foreign):
        raise CommandError(
            "There is a schema chat_api that belongs to another role, who could read what every user does, so nothing "
            "was changed. Have its owner or an administrator drop or rename it."
        )
    quote = connection.dialect.identifier_preparer.quote_identifier
    names = (recorded_roles(connection) or Roles()).logical_names()
    roles = {logical: quote(actual) for actual, logical in names.items()}
    _run(connection, tuple(statement.format(**roles) for statement in INSTALL))


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
