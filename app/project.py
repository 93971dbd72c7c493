"""What the engine is told of the chat schema."""

from .engine.project import Project, VersionTable
from .engine.session import SEARCH_PATH

INTERNAL_SCHEMA = "chat_internal"
VERSIONS = VersionTable(INTERNAL_SCHEMA)
PROJECT = Project(
    command="chat-schema",
    address="DATABASE_URL",
    without_address=" (unset DATABASE_URL to use the embedded server)",
    verify="chat-schema verify",
    default_schema="public",
    search_path=SEARCH_PATH,
    home=INTERNAL_SCHEMA,
    positions="backfill_progress",  # made by the first revision
    lock_space=0x63686174,  # "chat" in ASCII
)
