"""`python -m chat_schema.catalog`: write head.json and docs/schema.md from a scratch database, migrated for it."""

import tempfile
from pathlib import Path

from alembic.config import Config

from alembic import command

from .. import database, embedded
from . import take_snapshot, write_expected
from .document import as_markdown

with tempfile.TemporaryDirectory() as folder:
    Path(folder).chmod(0o711)
    with embedded.running(Path(folder) / "data") as server:
        config = Config(database.project_folder() / "alembic.ini")
        config.attributes["url"] = server.url().render_as_string(hide_password=False)
        command.upgrade(config, "head")
        with database.connect(server.url()) as connection:
            snapshot = take_snapshot(connection)
            page = database.project_folder() / "docs" / "schema.md"
            page.parent.mkdir(exist_ok=True)
            page.write_text(as_markdown(snapshot), "utf-8")
            print(write_expected(snapshot), page, sep="\n")
