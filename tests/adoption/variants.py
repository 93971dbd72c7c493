"""Databases as real teams have them: a starting point, and the few statements that make it another one.

Each is adopted, or refused untouched by a message that says ``told`` (patterns, between them &) and gives the
statements that mend it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.adoption.legacy import MOVE

ANA = "b0000000-0000-4000-8000-000000000001"
MESSAGE = "b3000000-0000-4000-8000-000000000001"


@dataclass(frozen=True)
class Variant:
    """``statements`` run as the login that migrates, ``as_admin`` before them as superuser; ``told`` None: adopted.

    ``undo`` is what the team does afterwards to put its own objects back, and removes what is the server's.
    """

    statements: str = ""
    told: str | None = None
    start: str = "2"
    platform: str = "plain"
    as_admin: str = ""
    undo: str = ""
    options: tuple[str, ...] = MOVE


def retyped(table: str, column: str, kind: str, using: str) -> str:
    return f"ALTER TABLE {table} ALTER {column} DROP DEFAULT, ALTER {column} TYPE {kind} USING {using.format(column)};"


NUMBER = "right({0}::text, 6)::bigint"
OF_USERS = (("tasks", "user_id"), ("conversations", "user_id"), ("messages", "user_id"))
NO_KEYS_TO_USERS = """
    ALTER TABLE tasks DROP CONSTRAINT fk_tasks_user_id;
    ALTER TABLE conversations DROP CONSTRAINT fk_conversations_user_id;
    ALTER TABLE messages DROP CONSTRAINT fk_messages_user_id;
"""
KEYS_TO_USERS = """
    ALTER TABLE tasks ADD CONSTRAINT fk_tasks_user_id FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
    ALTER TABLE conversations ADD CONSTRAINT own_key FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
    ALTER TABLE messages ADD CONSTRAINT fk_messages_user_id FOREIGN KEY (user_id) REFERENCES users;
"""
USERS_BY = """
    {no_keys}
    {users} {others}
    CREATE TABLE own_devices (id serial PRIMARY KEY, user_id {kind} REFERENCES users, token text);
    INSERT INTO own_devices (user_id) SELECT id FROM users;
    {keys}
"""


def users_by(kind: str, using: str) -> str:
    return USERS_BY.format(
        no_keys=NO_KEYS_TO_USERS,
        users=retyped("users", "id", kind, using),
        others=" ".join(retyped(table, column, kind, using) for table, column in OF_USERS),
        kind=kind,
        keys=KEYS_TO_USERS,
    )


CONVERSATIONS_BY_BIGINT = f"""
    ALTER TABLE messages DROP CONSTRAINT fk_messages_conversation_id;
    {retyped("conversations", "id", "bigint", NUMBER)}
    ALTER TABLE conversations ALTER id ADD GENERATED ALWAYS AS IDENTITY;
    {retyped("messages", "conversation_id", "bigint", NUMBER)}
    ALTER TABLE messages ADD FOREIGN KEY (conversation_id) REFERENCES conversations ON DELETE CASCADE;
    {retyped("messages", "id", "bigint", NUMBER)}
    CREATE SEQUENCE messages_numbers OWNED BY messages.id;
    ALTER TABLE messages ALTER id SET DEFAULT nextval('messages_numbers');
"""
TIMESTAMPS = "".join(
    f"ALTER TABLE {table} ALTER {column} TYPE timestamp{precision} USING {column} AT TIME ZONE 'UTC';"
    for table, columns, precision in (
        ("users", ("created_at", "updated_at"), ""),
        ("tasks", ("created_at", "updated_at"), ""),
        ("conversations", ("created_at", "updated_at"), "(3)"),
        ("messages", ("created_at",), "(6)"),
    )
    for column in columns
)
NO_USERS = f"""
    CREATE TABLE chat_messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL,
      role text NOT NULL, content text NOT NULL, created_at timestamptz DEFAULT now());
    INSERT INTO chat_messages (user_id, role, content) VALUES ('{ANA}', 'user', 'Hi'), ('{ANA}', 'assistant', 'Hello')
"""
KEYED = """
    ALTER TABLE messages ADD COLUMN idempotency_key text;
    UPDATE messages SET idempotency_key = 'same' WHERE id::text ~ '[123]$';
"""
FLAT = """
    CREATE TABLE chat_messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid REFERENCES users,
      role text, content text, created_at timestamptz DEFAULT now());
    INSERT INTO chat_messages (user_id, role, content) SELECT id, 'user', 'Hi' FROM users;
"""
ELSEWHERE = """
    CREATE SCHEMA team;
    ALTER TABLE messages SET SCHEMA team; ALTER TABLE conversations SET SCHEMA team;
"""
QUOTED = """
    DROP TABLE tasks;
    ALTER TABLE users RENAME TO "User"; ALTER TABLE conversations RENAME TO "Conversation";
    ALTER TABLE messages RENAME TO "Message"; ALTER TABLE "Message" RENAME conversation_id TO "conversationId";
    ALTER TABLE "Conversation" RENAME user_id TO "userId"; ALTER TABLE "Message" RENAME user_id TO "userId";
    ALTER TABLE "Conversation" RENAME created_at TO "createdAt";
"""

REFUSES = """
    CREATE FUNCTION own_refusal() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE EXCEPTION 'messages are immutable'; END $$;
"""
REHEARSED = (*MOVE, "rehearse=yes")

VARIANTS = {
    # types
    "bigint ids of conversations": Variant(
        CONVERSATIONS_BY_BIGINT, "conversations.id is bigint & messages.id is bigint"
    ),
    "bigint ids of users": Variant(users_by("bigint", NUMBER), "own_devices.user_id is bigint & users.id is bigint"),
    "uuids kept as text": Variant(users_by("text", "{0}::text"), "users.id is text"),
    "ids of an identity provider": Variant(users_by("text", "'user_' || {0}"), "users.id is text"),
    "timestamps without zone": Variant(TIMESTAMPS),
    "timestamps of another zone": Variant(
        TIMESTAMPS,
        "tasks.created_at is timestamp without time zone.*which is not UTC",
        as_admin="ALTER DATABASE {database} SET TimeZone = 'Europe/Berlin'",
    ),
    "precise timestamps": Variant("ALTER TABLE tasks ALTER created_at TYPE timestamptz(3)"),
    "json": Variant(
        "ALTER TABLE messages ALTER tool_calls TYPE json;"
        "ALTER TABLE conversations ADD metadata json NOT NULL DEFAULT '{}'",
        "conversations.metadata is json, and this schema has jsonb & messages.tool_calls is json",
    ),
    "arrays as json": Variant(
        "ALTER TABLE chat_sessions ALTER messages DROP DEFAULT, ALTER messages TYPE json;",
        "chat_sessions.messages is json",
        start="3a",
        platform="supabase",
    ),
    "roles of an enum": Variant(
        "ALTER TABLE messages DROP CONSTRAINT messages_role_check; CREATE TYPE own_role AS ENUM ('user', 'agent');"
        "ALTER TABLE messages ALTER role TYPE own_role USING role::own_role",
        "messages.role is public.own_role",
    ),
    "citext": Variant(
        "CREATE EXTENSION citext; DELETE FROM tasks; DELETE FROM messages; DELETE FROM conversations;"
        "DELETE FROM users WHERE email = 'Ana@Example.test'; ALTER TABLE users ALTER email TYPE citext;",
        "users.email is .*citext",
    ),
    "addresses and titles as text": Variant(
        "ALTER TABLE users ALTER email TYPE text, ALTER password_hash TYPE text;"
        "ALTER TABLE tasks ALTER title TYPE text",
        "users.email is text, and this schema has character varying & tasks.title is text",
    ),
    # keys
    "a wider primary key": Variant(
        "ALTER TABLE messages DROP CONSTRAINT messages_pkey, ADD PRIMARY KEY (conversation_id, id)",
        r"messages has PRIMARY KEY \(conversation_id, id\)",
    ),
    "a primary key that others point at": Variant(
        "ALTER TABLE messages DROP CONSTRAINT fk_messages_conversation_id;"
        "DELETE FROM messages WHERE content = 'other owner';"
        "ALTER TABLE conversations DROP CONSTRAINT conversations_pkey, ADD PRIMARY KEY (user_id, id);"
        "ALTER TABLE messages ADD FOREIGN KEY (user_id, conversation_id) REFERENCES conversations ON DELETE CASCADE",
        r"conversations has PRIMARY KEY \(user_id, id\)",
    ),
    "no primary key": Variant(
        "ALTER TABLE tasks DROP CONSTRAINT tasks_pkey; INSERT INTO tasks SELECT * FROM tasks LIMIT 1",
        "tasks has no primary key & 1 rows of public.tasks have the id of another",
    ),
    # rows
    "NULL as content": Variant(
        f"ALTER TABLE messages ALTER content DROP NOT NULL; UPDATE messages SET content = NULL WHERE id = '{MESSAGE}'",
        f"messages: 1 have no content.*{MESSAGE}",
    ),
    "NULL as role and content of flat messages": Variant(
        FLAT + "UPDATE chat_messages SET role = NULL, content = NULL WHERE user_id::text ~ '1$'",
        "chat_messages: 1 have no role & chat_messages: 1 have no content",
    ),
    "flat messages of nobody": Variant(
        FLAT + "UPDATE chat_messages SET user_id = NULL", "chat_messages: 3 have no user_id.*set them aside"
    ),
    "a conversation of nobody": Variant(
        "ALTER TABLE conversations ALTER user_id DROP NOT NULL;"
        "INSERT INTO conversations (id) VALUES ('b2000000-0000-4000-8000-000000000009')",
        "conversations: 1 have no user_id.*b2000000-0000-4000-8000-000000000009",
    ),
    "messages without their own user": Variant(
        "ALTER TABLE messages ALTER user_id DROP NOT NULL;UPDATE messages SET user_id = NULL WHERE id::text ~ '[1235]$'"
    ),
    "users without created_at": Variant("ALTER TABLE users DROP created_at, DROP updated_at"),
    "users, tasks of an unknown time": Variant(
        "ALTER TABLE users ALTER created_at DROP NOT NULL, ALTER updated_at DROP NOT NULL;"
        "ALTER TABLE tasks ALTER created_at DROP NOT NULL, ALTER updated_at DROP NOT NULL;"
        "UPDATE users SET created_at = NULL; UPDATE users SET updated_at = NULL WHERE id::text ~ '1$';"
        "UPDATE tasks SET created_at = NULL, updated_at = NULL"
    ),
    "a password without address": Variant(
        "ALTER TABLE users ALTER email DROP NOT NULL; UPDATE users SET email = NULL WHERE id::text ~ '3$'",
        "1 rows of public.users have a password and no address",
    ),
    "one address twice": Variant(
        "ALTER TABLE users DROP CONSTRAINT users_email_key; UPDATE users SET email = lower(email)",
        "1 rows of public.users have the address of another one",
    ),
    "messages of a conversation that is gone": Variant(
        "ALTER TABLE messages DROP CONSTRAINT fk_messages_conversation_id;"
        "DELETE FROM conversations WHERE id = 'b2000000-0000-4000-8000-000000000001'",
        "3 rows of public.messages have a conversation_id that stands nowhere",
    ),
    "conversations of a user who is gone": Variant(
        NO_KEYS_TO_USERS + "DELETE FROM users WHERE id::text ~ '2$'",
        "1 rows of public.conversations have a user_id that stands nowhere & rows of public.tasks have a user_id",
    ),
    "flat messages and no users": Variant(NO_USERS, "There is no table of users", start="empty"),
    "one idempotency key twice": Variant(
        KEYED, "2 rows of public.messages have an idempotency_key that another message"
    ),
    "a role of its own": Variant(
        "ALTER TABLE messages DROP CONSTRAINT messages_role_check;"
        "UPDATE messages SET role = 'bot' WHERE role = 'agent'",
        "rows of public.messages have a role that this schema has not",
    ),
    # columns
    "seq as serial": Variant("ALTER TABLE messages ADD seq bigserial", "messages.seq is bigint DEFAULT nextval"),
    "seq as integer": Variant(
        "ALTER TABLE messages ADD seq integer;"
        "UPDATE messages AS m SET seq = o.n FROM (SELECT id, row_number() OVER (PARTITION BY conversation_id) AS n"
        " FROM messages) AS o WHERE o.id = m.id AND m.content <> 'other owner'",
        "messages.seq is integer",
    ),
    "seq generated always": Variant(
        "ALTER TABLE messages ADD seq bigint GENERATED ALWAYS AS IDENTITY", "messages.seq is bigint GENERATED ALWAYS"
    ),
    "a column that must be given": Variant(
        "ALTER TABLE conversations ADD workspace text; UPDATE conversations SET workspace = 'home';"
        "ALTER TABLE conversations ALTER workspace SET NOT NULL",
        "conversations.workspace is never NULL and has no default",
    ),
    # what reads our tables
    "a materialized view": Variant(
        "CREATE MATERIALIZED VIEW own_titles AS SELECT title FROM conversations",
        "materialized view public.own_titles reads public.conversations.title, which becomes text",
    ),
    "a materialized view of a view": Variant(
        "CREATE VIEW own_view AS SELECT title FROM conversations;"
        "CREATE MATERIALIZED VIEW own_titles AS SELECT title FROM own_view",
        "materialized view public.own_titles reads public.conversations.title",
    ),
    "a function in SQL": Variant(
        "CREATE FUNCTION own_title(uuid) RETURNS text BEGIN ATOMIC SELECT title FROM conversations WHERE id = $1; END",
        r"function public.own_title\(uuid\) reads public.conversations.title",
    ),
    "a policy of its own table": Variant(
        "CREATE TABLE own_notes (session uuid, note text); ALTER TABLE own_notes ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY has_messages ON own_notes USING (EXISTS (SELECT FROM chat_sessions AS s"
        " WHERE s.id = session AND s.messages <> '[]'))",
        "policy has_messages on public.own_notes reads public.chat_sessions.messages",
        start="3a",
        platform="supabase",
    ),
    "a view of its own": Variant("CREATE VIEW own_titles AS SELECT title FROM conversations"),
    "a view of a stranger": Variant(
        told="the view public.own_titles of stranger reads public.conversations.title",
        platform="owner",
        as_admin="CREATE ROLE stranger; GRANT CREATE ON SCHEMA public TO stranger;"
        "GRANT SELECT ON conversations TO stranger; SET ROLE stranger;"
        "CREATE VIEW own_titles AS SELECT title FROM public.conversations; RESET ROLE",
        undo="DROP OWNED BY stranger CASCADE; DROP ROLE stranger",
    ),
    # names
    "an index of the same name": Variant(
        "CREATE TABLE own_tags (user_id uuid); CREATE INDEX idx_brands_user ON own_tags (user_id)",
        "index public.idx_brands_user is there",
    ),
    "a table that was renamed": Variant(
        "CREATE TABLE brands (id uuid PRIMARY KEY); ALTER TABLE brands RENAME TO own_brands",
        "index public.brands_pkey is there",
    ),
    "a constraint of the same name": Variant(
        "ALTER TABLE tasks ADD CONSTRAINT ck_tasks_times CHECK (updated_at >= created_at)",
        "the constraint ck_tasks_times on public.tasks has the name",
    ),
    "tables in another schema": Variant(
        ELSEWHERE, "team.conversations looks like a table of chats & team.messages looks like"
    ),
    "tables that are to stay in another schema": Variant(ELSEWHERE, options=("chats-elsewhere=leave",)),
    "tables under quoted names": Variant(QUOTED, 'Conversation" looks like a table of chats'),
    # settings
    "row level security forced on the owner": Variant(
        "ALTER TABLE messages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
        "CREATE POLICY own ON messages USING (user_id::text = current_setting('app.user', true))",
        "messages forces row level security on its owner",
        platform="owner",
    ),
    "strings of old": Variant(
        told="standard_conforming_strings is off here",
        as_admin="ALTER DATABASE {database} SET standard_conforming_strings = off",
    ),
    "quotes everywhere": Variant(as_admin="ALTER DATABASE {database} SET quote_all_identifiers = on"),
    "reading alone": Variant(
        told="default_transaction_read_only is on here",
        as_admin="ALTER DATABASE {database} SET default_transaction_read_only = on",
    ),
    # what only a rehearsal shows
    "messages that nobody may change": Variant(
        REFUSES + "CREATE TRIGGER own_lock BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION own_refusal()",
        "messages are immutable & ALTER TABLE public.messages DISABLE TRIGGER own_lock",
        options=REHEARSED,
    ),
    "messages that silently stay": Variant(
        "CREATE FUNCTION own_silence() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER own_lock BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION own_silence()",
        "rows of public.messages still wait & ALTER TABLE public.messages DISABLE TRIGGER own_lock",
        options=REHEARSED,
    ),
    "a catalog that nobody may change": Variant(
        told="no changes on Fridays & ALTER EVENT TRIGGER own_freeze DISABLE",
        as_admin="CREATE FUNCTION own_freeze() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no changes on Fridays'; END $$;"
        "CREATE EVENT TRIGGER own_freeze ON ddl_command_start EXECUTE FUNCTION own_freeze()",
        options=REHEARSED,
    ),
    "nothing in the way": Variant(options=REHEARSED),
    "nothing in the way on a platform": Variant(start="1b", platform="supabase-all", options=REHEARSED),
}
