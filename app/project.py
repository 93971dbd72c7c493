"""What the engine is told of the chat schema."""

from .engine.project import Project, VersionTable
from .engine.session import SEARCH_PATH

INTERNAL_SCHEMA = "chat_internal"
VERSIONS = VersionTable(INTERNAL_SCHEMA)
PROJECT = Project(
    command="chat-schema",
    verify="chat-schema verify",
    default_schema="public",
    search_path=SEARCH_PATH,
    positions="backfill_progress",  # made by the first revision
    lock_space=0x63686174,  # "chat" in ASCII
)
