"""The ways to give every message of a flat table its conversation, each from revision 0031 of our chain."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import sqlalchemy as sa
from alembic.config import Config

from alembic import command
from app import database

BEFORE, AFTER = "0031", "0037"

# The three migrations that our revisions replace, in their own order, each in one transaction. The conversations table
# of the first stands at 0031 already.
ORIGINAL = (
    "CREATE INDEX IF NOT EXISTS idx_conversations_user_created ON public.conversations (user_id, created_at DESC)",
    """
    ALTER TABLE public.chat_messages ADD COLUMN IF NOT EXISTS conversation_id uuid;
    ALTER TABLE public.chat_messages ADD CONSTRAINT fk_chat_messages_conversation
      FOREIGN KEY (conversation_id) REFERENCES public.conversations (id) ON DELETE CASCADE NOT VALID;
    CREATE INDEX IF NOT EXISTS idx_chat_messages_conversation ON public.chat_messages (conversation_id);
    CREATE INDEX IF NOT EXISTS idx_chat_messages_conv_created
      ON public.chat_messages (conversation_id, created_at DESC);
    """,
    """
    INSERT INTO public.conversations (user_id, title, created_at, updated_at)
    SELECT cm.user_id, 'Chat History', min(cm.created_at), max(cm.created_at)
    FROM public.chat_messages AS cm
    WHERE NOT EXISTS (SELECT FROM public.conversations AS c WHERE c.user_id = cm.user_id)
    GROUP BY cm.user_id;
    UPDATE public.chat_messages AS cm
    SET conversation_id =
      (SELECT c.id FROM public.conversations AS c WHERE c.user_id = cm.user_id ORDER BY c.created_at ASC LIMIT 1)
    WHERE cm.conversation_id IS NULL;
    ALTER TABLE public.chat_messages VALIDATE CONSTRAINT fk_chat_messages_conversation;
    DO $$
    DECLARE
      orphaned integer := (SELECT count(*) FROM public.chat_messages WHERE conversation_id IS NULL);
      talking integer := (SELECT count(DISTINCT user_id) FROM public.chat_messages);
      served integer := (SELECT count(DISTINCT user_id) FROM public.conversations);
    BEGIN
      IF orphaned > 0 THEN RAISE EXCEPTION 'Migration failed: % orphaned messages', orphaned; END IF;
      IF talking <> served THEN
        RAISE EXCEPTION 'Migration failed: % users with messages, % with conversations', talking, served;
      END IF;
    END $$;
    """,
)

RAW = (
    """
    ALTER TABLE public.chat_messages ADD COLUMN conversation_id uuid;
    INSERT INTO public.conversations (user_id, title, created_at, updated_at)
    SELECT cm.user_id, 'Chat History', min(cm.created_at), max(cm.created_at)
    FROM public.chat_messages AS cm
    GROUP BY cm.user_id;
    UPDATE public.chat_messages AS cm
    SET conversation_id =
      (SELECT c.id FROM public.conversations AS c WHERE c.user_id = cm.user_id ORDER BY c.created_at ASC LIMIT 1);
    """,
)

CONVERSATIONS = """
    INSERT INTO public.conversations (id, user_id, title, created_at, updated_at)
    SELECT chat_internal.default_conversation_id(m.user_id), m.user_id, 'Chat History',
           min(m.created_at), max(m.created_at)
    FROM public.chat_messages AS m
    GROUP BY m.user_id
    ON CONFLICT (id) DO NOTHING
"""
KEY_BATCH = """
    WITH batch AS MATERIALIZED (
      SELECT m.id FROM public.chat_messages AS m WHERE m.id > %s ORDER BY m.id LIMIT 1000 FOR NO KEY UPDATE
    ), changed AS (
      UPDATE public.chat_messages AS m
      SET conversation_id =
        (SELECT c.id FROM public.conversations AS c WHERE c.user_id = m.user_id ORDER BY c.created_at ASC LIMIT 1)
      FROM batch
      WHERE m.id = batch.id AND m.conversation_id IS NULL
    )
    SELECT id FROM batch ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True)
class Way:
    """A name, how to do it to the database at an address, and whether clients could be let in meanwhile."""

    name: str
    run: Callable[[sa.URL], None]
    traffic: bool = True


def conninfo(url: sa.URL) -> str:
    """Return ``url`` as libpq takes it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def upgrade(url: sa.URL, revision: str, *options: str) -> None:
    """Upgrade with ``-x`` options, as ``alembic upgrade`` does."""
    config = Config(database.project_folder() / "alembic.ini")
    config.attributes.update(url=url.render_as_string(hide_password=False), configure_logging=False)
    config.cmd_opts = argparse.Namespace(x=list(options))
    command.upgrade(config, revision)


def ways() -> list[Way]:
    """Return all of them; the first is the one the others are compared with."""
    return [
        Way("original SQL", lambda url: _files(url, ORIGINAL)),
        Way("raw UPDATE", lambda url: _files(url, RAW), traffic=False),
        Way("key batches", _key_batches),
        Way("ours, 1 worker", lambda url: upgrade(url, AFTER, "backfill-workers=1")),
        Way("ours, 2 workers", lambda url: upgrade(url, AFTER, "backfill-workers=2")),
    ]


def _files(url: sa.URL, files: tuple[str, ...]) -> None:
    """Run each file as the SQL editor does: all of it in one transaction."""
    with psycopg.connect(conninfo(url)) as connection:
        for file in files:
            connection.execute(file)
            connection.commit()


def _key_batches(url: sa.URL) -> None:
    """Batches of 1,000 keys without a pause, as pgroll makes them; our trigger and key before, our indexes after."""
    upgrade(url, "0032")
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        connection.execute(CONVERSATIONS)
        last: object = "00000000-0000-0000-0000-000000000000"
        while row := connection.execute(KEY_BATCH, (last,)).fetchone():
            (last,) = row
    upgrade(url, AFTER)  # whose backfill finds nothing left to do
