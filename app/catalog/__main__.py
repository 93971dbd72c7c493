"""`python -m app.catalog`: write head.json from a scratch database that is migrated from empty for it."""

import tempfile
from pathlib import Path

from alembic.config import Config

from alembic import command
from app import database, embedded
from app.catalog import take_snapshot, write_expected

with tempfile.TemporaryDirectory() as folder:
    Path(folder).chmod(0o711)
    with embedded.running(Path(folder) / "data") as server:
        config = Config(database.project_folder() / "alembic.ini")
        config.attributes["url"] = server.url().render_as_string(hide_password=False)
        command.upgrade(config, "head")
        with database.connect(server.url()) as connection:
            print(write_expected(take_snapshot(connection)))
