"""Runs the revisions of this project; docs/engine.md says what else run() takes."""

from alembic import context
from chat_schema.engine import run

target_metadata = None  # the metadata of your models, for --autogenerate and `alembic check`

run(context, target_metadata=target_metadata)
