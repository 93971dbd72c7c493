"""Runs the service's own revisions, in its own schema, on the engine of chat-schema."""

from alembic import context

import chat_schema.operations  # noqa: F401  op.grant_schema_usage, for the roles of chat-schema
from chat_schema.engine import run

run(
    context,
    options=context.config.attributes["options"],  # which know what this database calls the roles
    version_table_schema="chat_api",
)
