"""`python -m chat_schema.catalog`: write what is expected, and docs/schema.md, from scratch databases migrated for it.

One is plain; one has ``auth.users`` as the hosted platforms have it, to which the chain adds its mirror.
"""

import tempfile
from pathlib import Path

from alembic.config import Config

from alembic import command

from .. import database, embedded
from . import Snapshot, take_snapshot, write_expected
from .document import as_markdown

AUTH_USERS = """
    CREATE SCHEMA auth;
    CREATE TABLE auth.users (id uuid PRIMARY KEY, email varchar(255), created_at timestamptz)
"""


def migrated(server: embedded.Server, name: str, before: str) -> Snapshot:
    """Return the catalog of a new database, migrated after the statements in ``before``."""
    with database.connect(server.url("postgres")) as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(f"CREATE DATABASE {name}")
    config = Config(database.project_folder() / "alembic.ini")
    config.attributes["url"] = server.url(name).render_as_string(hide_password=False)
    config.attributes["compare_catalog"] = False  # with what is about to be written anew
    with database.connect(server.url(name)) as connection:
        connection.exec_driver_sql(before)
        connection.commit()
        command.upgrade(config, "head")
        return take_snapshot(connection)


with tempfile.TemporaryDirectory() as folder:
    Path(folder).chmod(0o711)
    with embedded.running(Path(folder) / "data") as server:
        snapshot = migrated(server, "plain", "SELECT 1")
        written = write_expected(snapshot, migrated(server, "hosted", AUTH_USERS))
        page = database.project_folder() / "docs" / "schema.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(as_markdown(snapshot), "utf-8")
        print(*written, page, sep="\n")
