"""Live updates from the database, opt-in: triggers that announce each write of a conversation or message by NOTIFY.

    python -m chat_api.notify install     # as the tables' owner (DATABASE_URL); then restart the services
    python -m chat_api.notify waiting     # how many changes no service has read yet, by tenant
    python -m chat_api.notify remove
    python -m chat_api.notify realtime    # on Supabase, instead: conversations and messages join supabase_realtime

Every role that may connect may LISTEN. So a notification holds a number and nothing else; what was written stands under
that number in chat_api.changes, which service_role alone reads. Both come by a revision of the service's own, in
chain/, on the engine of chat-schema.

Off by default, because a transaction that notifies holds one lock for the whole server while it commits: commits that
would have shared a flush to disk then wait for one another. `python -m chat_api.notify_cost` measures it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from chat_schema import database
from chat_schema.options import Options
from chat_schema.roles import recorded_roles

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
WAITING = sa.text("SELECT tenant_id, count(*) AS changes FROM chat_api.changes GROUP BY 1 ORDER BY 2 DESC, 1")
HORIZON = sa.text("SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text")


def install(connection: sa.Connection, revision: str = "head") -> None:
    """Upgrade the service's own chain: table, triggers and index; what they wait for blocks nobody.

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
    command.upgrade(_chain(connection), revision)


def waiting(connection: sa.Connection) -> list[tuple[str, int]]:
    """Return how many changes wait, by tenant, the most first; services that listen leave none for more than minutes.

    Raises :class:`alembic.util.CommandError` where nothing is announced.
    """
    if not connection.scalar(INSTALLED):
        raise CommandError("Nothing is announced here, so nothing waits. Run `install` first.")
    return [(str(row.tenant_id or "personal"), row.changes) for row in connection.execute(WAITING)]


def remove(connection: sa.Connection) -> None:
    """Downgrade it to base, and drop the schema, which holds nothing else."""
    if connection.scalar(sa.text("SELECT to_regclass('chat_api.alembic_version') IS NOT NULL")):
        command.downgrade(_chain(connection), "base")
        connection.exec_driver_sql("DROP TABLE chat_api.alembic_version")
        connection.exec_driver_sql("DROP SCHEMA chat_api")
    connection.commit()


def _chain(connection: sa.Connection) -> Config:
    """Return the configuration of the revisions in chain/, on this connection and with the roles that it has."""
    options = Options().settle_roles(recorded_roles(connection))
    connection.commit()
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "chain").replace("%", "%%"))
    config.attributes.update(connection=connection, options=options)
    return config


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


def main() -> None:
    """Run the command line; exit 1 where it could not be done."""
    parser = argparse.ArgumentParser(
        prog="python -m chat_api.notify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("install", "waiting", "remove", "realtime"))
    asked = parser.parse_args().command
    try:
        with database.explained_errors(), database.database_url() as url, database.connect(url) as connection:
            if asked == "realtime":
                joined = join_realtime(connection)
                print(f"Joined supabase_realtime: {', '.join(joined) or 'nothing, both tables were in it'}.")
            elif asked == "install":
                install(connection)
                print("Installed: every write is announced. Restart the services.")
            elif asked == "waiting":
                for tenant, changes in waiting(connection):
                    print(f"{changes:>9,} {tenant}")
            else:
                remove(connection)
                print("Removed. Restart the services.")
    except CommandError as error:
        sys.exit(f"chat-api: {error}")


if __name__ == "__main__":
    main()
