"""Create comments on tables and columns.

What:   COMMENT ON each table of schema public, and on each of its columns.
Why:    psql, dashboards and generated documentation show them, so whoever meets a column reads there what it holds. The
        words are those of the models; `alembic check` compares the two. A comment that a team has made on a table that
        was adopted stays: some tools take instructions from comments, and a service of the team may depend on them.
Locks:  ShareUpdateExclusive on public.attachments, public.brands, public.chat_messages, public.conversation_messages,
        public.conversation_sessions, public.conversations, public.feedback, public.messages, public.retention_holds,
        public.retention_rules, public.shares, public.tasks, public.tenant_users, public.tenants,
        public.user_llm_providers and public.users, an instant: reads and writes go on.
Undone: the comments are taken away, where they are still these.

Revision ID: 0072
Revises: 0071
"""

from alembic import op

revision = "0072"
down_revision = "0071"
branch_labels = None
depends_on = None

KEY = "The key of the row: a UUID from the client, or from the database where the client sends none."
OWNER = "The owner of the row. It never changes, and the row is deleted with its user."
MADE = "When the row was made."
CHANGED = "When the row was last changed. A trigger moves it, unless the UPDATE sets it itself."
TENANT = "The tenant of the conversation, whatever a client sends. Triggers keep the two equal."

OF_TABLES = {
    "attachments": {
        "": "Files that users have added to conversations. A row describes a file; its bytes are elsewhere.",
        "id": KEY,
        "user_id": OWNER,
        "conversation_id": "The conversation that the file was added to.",
        "message_id": "The message that the file was sent with; NULL until it is sent.",
        "name": "The name of the file, as the user gave it.",
        "media_type": "The media type of the file, for example image/png.",
        "size_bytes": "The size of the file in bytes.",
        "sha256": "The SHA-256 digest of the file, 32 bytes.",
        "storage_key": (
            "Where the service stores the bytes. No two rows share one: the bytes are deleted with their row."
        ),
        "created_at": MADE,
    },
    "brands": {
        "": "Brands of users, which creative sessions work for.",
        "id": KEY,
        "user_id": OWNER,
        "name": "What the brand is called.",
        "created_at": MADE,
        "updated_at": CHANGED,
    },
    "chat_messages": {
        "": "Messages of older clients, which know one flat history a user. New code writes to messages.",
        "id": KEY,
        "user_id": OWNER,
        "role": "Who wrote it. Any text: rows of older applications hold what they hold.",
        "content": "The text of the message.",
        "created_at": "When the message was written; NULL where an older application did not say.",
        "conversation_id": (
            "The conversation of the message. A client may leave it out: it is then its owner's default one."
        ),
        "tenant_id": TENANT,
    },
    "conversation_messages": {
        "": "Messages of creative sessions, with model, tokens, cost and latency where a model wrote them.",
        "id": KEY,
        "session_id": "The session that the message is part of.",
        "brand_id": "The brand of the session. A foreign key keeps the two equal.",
        "user_id": OWNER,
        "role": "Who wrote it: user, assistant, system or director.",
        "content": "The text of the message.",
        "tokens_used": "How many tokens the model used for it.",
        "model_used": "The model that wrote it; NULL: no model did.",
        "provider": "The provider of the model.",
        "cost_usd": "What the model cost, in US dollars.",
        "latency_ms": "How long the model took, in milliseconds.",
        "action_taken": "What the director did in this turn.",
        "questions_asked": "Questions that this turn put to the user, a JSON array.",
        "delegation_plan": "Which agents get which part of the work, a JSON object.",
        "created_at": MADE,
        "seq": "Gives messages of the same created_at their order. Only the database sets it.",
    },
    "conversation_sessions": {
        "": "Creative sessions: a user and a director agent work for a brand, until something is delivered.",
        "id": KEY,
        "brand_id": "The brand that the session works for.",
        "user_id": OWNER,
        "state": "How far the work is. delivered and cancelled end it; any other word is the application's own.",
        "parsed_intent": "What the user wants, as the application has understood it, a JSON object.",
        "answered_questions": "Questions to the user with their answers, a JSON object.",
        "pending_questions": "Questions that the user has not answered yet, a JSON array.",
        "selected_kb_ids": "Ids of knowledge bases of the application that are in use.",
        "active_task_plan_id": "The id of the application's task plan that is carried out.",
        "created_at": MADE,
        "last_activity_at": "When the session was last changed or written to. Triggers move it.",
        "completed_at": "When the session was delivered or cancelled; NULL while it is open.",
    },
    "conversations": {
        "": "Threads of messages. Each has one owner, and is personal or belongs to a tenant.",
        "id": KEY,
        "tenant_id": (
            "NULL: a personal conversation. Else it is visible only while its owner is a member of the tenant."
        ),
        "user_id": OWNER,
        "title": "The title, as the list of conversations shows it.",
        "metadata": "What the application keeps with the conversation, a JSON object.",
        "created_at": MADE,
        "updated_at": (
            "When the latest message came, to within ten seconds, or when the metadata changed, if that was later."
        ),
        "archived_at": "Since when the conversation is in the archive; NULL: it is not.",
        "pinned_at": "Since when the conversation is pinned to the top of the list; NULL: it is not.",
        "last_read_at": "Messages up to this time have been read.",
        "deleted_at": "Since when the conversation is in the trash, and in no other list; NULL: it is not.",
        "head_message_id": "The last message of the branch that is shown; NULL while no message names a parent.",
    },
    "feedback": {
        "": "How users rate replies, one row a message.",
        "message_id": "The message that is rated.",
        "user_id": OWNER,
        "conversation_id": "The conversation of the message.",
        "rating": "1: thumb up. -1: thumb down.",
        "reason": "Why, in the words of the user.",
        "created_at": MADE,
        "updated_at": CHANGED,
    },
    "messages": {
        "": "Messages of conversations, and steps of tools. They are ordered by created_at, seq.",
        "id": KEY,
        "conversation_id": "The conversation that the message is part of.",
        "user_id": "The owner of the conversation. A client may leave it out: a trigger fills it.",
        "role": "Who wrote it: user, assistant, agent, system or tool.",
        "content": "The text of the message.",
        "tool_calls": "The calls of tools that the message asks for, a JSON array; NULL: none.",
        "metadata": "What the application keeps with the message, a JSON object.",
        "idempotency_key": "Chosen by the client, unique for its user: a request that is sent twice is stored once.",
        "seq": "Gives messages of the same created_at their order. Only the database sets it.",
        "created_at": MADE,
        "tenant_id": TENANT,
        "parent_id": "The message that this one answers, or its own id where it begins a branch without one before it.",
        "status": "streaming while a reply is written; then complete, error, or interrupted where its process ended.",
        "error": "What went wrong, a JSON object of the application.",
        "provider": "The provider of the model.",
        "model": "The model that wrote the message; NULL: no model did.",
        "finish_reason": "Why the model ended, in the words of its provider.",
        "input_tokens": "How many tokens the model read, those from the cache among them.",
        "output_tokens": "How many tokens the model wrote, those of reasoning among them.",
        "cached_tokens": "How many of the input tokens came from the cache.",
        "reasoning_tokens": "How many of the output tokens were reasoning.",
        "cost_usd": "What the model cost, in US dollars.",
        "latency_ms": "How long the model took, in milliseconds.",
        "parts": "The parts of a message that is more than text, a JSON array; content is its plain text. NULL: none.",
    },
    "retention_holds": {
        "": "Conversations that chat-schema purge never deletes, whatever the rules say.",
        "conversation_id": "The conversation that is kept.",
        "user_id": OWNER,
        "reason": "Why it is kept.",
        "created_at": MADE,
    },
    "retention_rules": {
        "": "How long conversations are kept, by tenant. chat-schema purge deletes what is older.",
        "id": KEY,
        "tenant_id": "The tenant that the rule is for; NULL: personal conversations, and tenants without a rule.",
        "keep": "How long after its last message or change a conversation is kept; NULL: for ever.",
        "trash_keep": "How long a conversation stays in the trash; NULL: for ever.",
        "created_at": MADE,
        "updated_at": CHANGED,
    },
    "shares": {
        "": "Links that show a conversation, up to one of its messages, to whoever has them.",
        "id": KEY,
        "user_id": OWNER,
        "conversation_id": "The conversation that is shared.",
        "message_id": "The last message that the share shows.",
        "token_hash": "The SHA-256 digest of the token in the link. Only service_role reads it.",
        "created_at": MADE,
        "expires_at": "When the link stops to work; NULL: never.",
        "revoked_at": "When the owner ended the share; NULL: the owner has not.",
    },
    "tasks": {
        "": "Entries of users' to-do lists, written by the user or by an agent in a chat.",
        "id": KEY,
        "user_id": OWNER,
        "title": "What is to be done, in one line.",
        "description": "More about it.",
        "completed": "Whether it is done.",
        "created_at": MADE,
        "updated_at": CHANGED,
    },
    "tenant_users": {
        "": "Which users are members of which tenants. A user sees a tenant's conversations only as a member.",
        "tenant_id": "The tenant that the user is a member of.",
        "user_id": "The member. The row is deleted with its user, and with its tenant.",
        "role": "What the user is there: owner, admin or member.",
        "created_at": MADE,
    },
    "tenants": {
        "": "Teams, customers or workspaces that share the product.",
        "id": KEY,
        "name": "What the tenant is called.",
        "created_at": MADE,
        "updated_at": CHANGED,
    },
    "user_llm_providers": {
        "": "Keys of model providers that users have brought, encrypted by the service.",
        "user_id": OWNER,
        "provider": "The provider that the key is for.",
        "ciphertext": "The key, encrypted by the service. Only service_role reads it.",
        "key_id": "Which key of the service it is encrypted with. Only service_role reads it.",
        "created_at": MADE,
        "updated_at": CHANGED,
    },
    "users": {
        "": "Users and anonymous visitors. Every row that a user owns is deleted with the user.",
        "id": KEY,
        "email": "The address; NULL: an anonymous visitor.",
        "password_hash": "The hash of the password; NULL: an identity provider checks it. Only service_role reads it.",
        "created_at": MADE,
        "updated_at": CHANGED,
    },
}
COMMENTS = {
    f"COLUMN public.{table}.{part}" if part else f"TABLE public.{table}": comment
    for table, parts in OF_TABLES.items()
    for part, comment in parts.items()
}


def upgrade() -> None:
    op.set_comments(COMMENTS)


def downgrade() -> None:
    op.set_comments(dict.fromkeys(COMMENTS), instead_of=COMMENTS)
