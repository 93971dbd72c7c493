"""Create comments on views and functions, and on everything in chat_internal.

What:   COMMENT ON each view and function of schema public, and each table, column and function of chat_internal.
Why:    as for tables (0072). Here the words stand in the revision: no model has them.
Locks:  ShareUpdateExclusive on public.chat_sessions, public.daily_message_volume, public.message_usage,
        public.provider_usage_stats, chat_internal.adopted, chat_internal.adopted_values, chat_internal.alembic_version,
        chat_internal.backfill_progress, chat_internal.chat_session_arrays, chat_internal.kept and
        chat_internal.role_names, an instant: reads and writes go on.
Undone: the comments are taken away, where they are still these.

Revision ID: 0073
Revises: 0072
"""

from alembic import op

revision = "0073"
down_revision = "0072"
branch_labels = None
depends_on = None

OF_RELATIONS = {
    "VIEW public.chat_sessions": {
        "": "Conversations as clients of the older table chat_sessions know them. They read and write here as before.",
        "id": "The id of the conversation.",
        "tenant_id": "The tenant of the conversation; NULL: a personal one.",
        "user_id": "The owner of the conversation.",
        "messages": "The messages of the branch that is shown, as one JSON array. An UPDATE writes the whole array.",
        "created_at": "When the conversation was made.",
        "updated_at": "When the conversation was last changed or written to.",
    },
    "VIEW public.daily_message_volume": {
        "": "How many messages creative sessions got on each day, and what they cost. A user sees its own.",
        "day": "The beginning of the day, in UTC.",
        "role": "Who wrote the messages.",
        "message_count": "How many messages there were.",
        "total_cost": "What they cost together, in US dollars.",
    },
    "VIEW public.message_usage": {
        "": "What messages used of each model, by user, tenant and day: tokens, cost and latency. A user sees its own.",
        "user_id": "The owner of the messages.",
        "tenant_id": "The tenant of the messages; NULL: those of personal conversations.",
        "day": "The day, in UTC.",
        "provider": "The provider of the model.",
        "model": "The model.",
        "messages": "How many messages it wrote.",
        "input_tokens": "How many tokens it read, those from the cache among them.",
        "output_tokens": "How many tokens it wrote, those of reasoning among them.",
        "cached_tokens": "How many of the input tokens came from the cache.",
        "reasoning_tokens": "How many of the output tokens were reasoning.",
        "cost_usd": "What it cost together, in US dollars.",
        "latency_ms": "How long it took on average, in milliseconds.",
    },
    "VIEW public.provider_usage_stats": {
        "": "What creative sessions used of each model: messages, tokens, cost and latency. A user sees its own.",
        "provider": "The provider of the model.",
        "model_used": "The model.",
        "message_count": "How many messages it wrote.",
        "total_tokens": "How many tokens it used together.",
        "total_cost": "What it cost together, in US dollars.",
        "avg_latency_ms": "How long it took on average, in milliseconds.",
    },
    "TABLE chat_internal.adopted": {
        "": "What was changed on objects that were there before the first upgrade. A downgrade undoes it from here.",
        "ordinal": "The order of the changes.",
        "object": "The table, view or function that was changed.",
        "what": "The change in words, as the log of the upgrade told it.",
        "undo": "The statements that undo it.",
        "lost": "Which rows the older shape cannot hold, a condition; NULL: it holds every row.",
    },
    "TABLE chat_internal.adopted_values": {
        "": "Values that an upgrade changed in rows that were there before. A downgrade puts them back.",
        "object": "The table, and which of its changes.",
        "key": "The primary key of the row, a JSON object.",
        "before": "The values before the change, by column.",
        "after": "The values after it. A downgrade leaves what somebody has changed since.",
    },
    "TABLE chat_internal.alembic_version": {
        "": "At which revision of chat-schema the database is.",
        "version_num": "The revision.",
    },
    "TABLE chat_internal.backfill_progress": {
        "": "How far each backfill has come. A run that is started again goes on from here.",
        "name": "The backfill.",
        "position": "Up to which page of the table it is done.",
        "updated_at": "When the row was last written.",
    },
    "TABLE chat_internal.chat_session_arrays": {
        "": "The arrays of messages that chat_sessions held before its messages became rows, for a downgrade.",
        "session_id": "The id of the session, which is now the id of its conversation.",
        "user_id": "The owner of the session.",
        "messages": "The array as it was.",
    },
    "TABLE chat_internal.kept": {
        "": "Objects of the team that weaken our tables. chat-schema verify reports one only when it has changed.",
        "kind": "The kind of object, as chat-schema verify reports it.",
        "identity": "Its name, as chat-schema verify reports it.",
        "properties": "What it was when it was recorded; NULL while the first upgrade runs.",
        "object": "How it is found again under another name, while the first upgrade runs.",
    },
    "TABLE chat_internal.role_names": {
        "": "What the three roles of the schema are called on this server.",
        "logical": "The name in the documentation: anon, authenticated or service_role.",
        "actual": "The name on this server.",
    },
}

OF_PUBLIC_FUNCTIONS = {
    "cancel_conversation_session(uuid)": "Ends a creative session as cancelled.",
    "complete_conversation_session(uuid)": "Ends a creative session as delivered.",
    "get_conversation_history(uuid, integer)": "Returns the first messages of a creative session, in order.",
    "get_session_cost(uuid)": "Returns what a creative session has cost, in US dollars.",
    "get_session_message_stats(uuid)": "Returns how many messages, tokens and dollars a creative session has taken.",
    "update_session_activity()": "Trigger of conversation_sessions: moves last_activity_at when a row changes.",
    "update_session_on_message()": "Trigger of conversation_messages: moves last_activity_at of the session.",
    "update_updated_at()": "Trigger: moves updated_at when a row changes, unless the UPDATE sets it itself.",
}

OF_INTERNAL_FUNCTIONS = {
    # who the caller is, and what it may see
    "current_user_id()": "Returns the id of the calling user, from the claims of the transaction. Policies ask it.",
    "current_tenant_ids()": "Returns the tenants that the calling user is a member of. Policies ask it.",
    "has_auth_users()": "Tells whether the platform keeps the accounts, in a table auth.users as Supabase has it.",
    # conversations and messages
    "default_conversation(uuid)": (
        "Returns the conversation that takes a user's messages that name none, and makes it where there is none."
    ),
    "default_conversation_id(uuid)": "Returns the id of a default conversation, which follows from its user's id.",
    "fill_chat_message_conversation()": "Trigger of chat_messages: fills conversation_id where a client left it out.",
    "fill_message_owner()": "Trigger of messages: fills user_id where a client left it out.",
    "fill_message_tenant()": "Trigger of chat_messages: sets tenant_id to that of the conversation.",
    "move_messages_to_tenant()": "Trigger of conversations: gives the messages their conversation's new tenant.",
    "touch_conversations()": "Trigger of messages and chat_messages: moves updated_at of their conversations.",
    "update_conversation()": "Trigger of conversations: moves updated_at when the metadata changes.",
    # branches
    "branch(uuid, uuid, integer)": "Returns a page of a branch, from a message or from the end of the active one back.",
    "branch_elements(uuid)": "Returns the active branch of a conversation as the JSON array that chat_sessions shows.",
    "check_head()": "Trigger of conversations: refuses a head that is no message of the conversation.",
    "latest_leaf(uuid, uuid)": "Returns the end of the branch that was written to last behind a message.",
    "mend_branches()": "Trigger of messages: what hung on a deleted message then hangs on the one before it.",
    "move_head()": "Trigger of messages: a new message becomes the head of its conversation.",
    "parent_of(uuid, uuid)": "Returns the message before a message, in its branch.",
    "place_message()": "Trigger of messages: sets tenant_id, and parent_id where the conversation has branches.",
    "siblings(uuid, uuid)": "Returns a message with the other answers to the same message, in order.",
    # shares, search, retention
    "open_share(bytea, timestamp with time zone, bigint, integer)": (
        "Returns a page of what a share shows, for the digest of its token; nothing where the share is closed."
    ),
    "search_messages(text, uuid, uuid, text[], timestamp with time zone, timestamp with time zone, boolean, text, "
    "timestamp with time zone, uuid, double precision, integer)": (
        "Returns a page of messages with the words of a query: the calling user's, or those the service asks for."
    ),
    "search_terms(uuid, text)": "Returns the terms by which the index of search_messages() finds a text.",
    "search_text(text)": "Returns a text as search_messages() compares it.",
    "purge_conversation_session_batch(timestamp with time zone, integer)": (
        "Deletes a batch of creative sessions that ended before a time, and returns how many. Call it until it is 0."
    ),
    "refuse_unseen_brand()": "Trigger of conversation_sessions: refuses a brand that the caller cannot see.",
    # the view chat_sessions
    "element_role(jsonb)": "Returns the role of an element of a chat_sessions array: a known one, else user.",
    "element_time(jsonb)": "Returns the time that an element of a chat_sessions array states, or NULL.",
    "message_element(public.messages)": "Returns a message as an element of the array that chat_sessions shows.",
    "session_elements(jsonb, timestamp with time zone)": "Returns a chat_sessions array as rows, one an element.",
    "store_session_messages(uuid, uuid, jsonb, timestamp with time zone)": (
        "Makes the messages of a conversation what a chat_sessions array says."
    ),
    "write_chat_session()": "Trigger of the view chat_sessions: writes to conversations and messages as the caller.",
    # accounts of Supabase
    "mirror_auth_user()": "Trigger of auth.users: keeps public.users like it. It warns instead of blocking a sign-up.",
    "repair_users()": "Makes public.users like auth.users again, and returns how many rows it changed.",
    "store_auth_user(uuid, text, timestamp with time zone)": "Stores one account of auth.users in public.users.",
    "users_to_mend()": "Returns accounts of auth.users that public.users lacks, or has with another address.",
    # adoption of tables that were there before the first upgrade
    "admit(text, text, text, oid[])": "Adoption: lets roles of the team's own at the rows of a table, for one command.",
    "adopt_columns(text)": "Adoption: gives a table the columns that it lacks, and the types of those it has.",
    "adopt_constraints(text)": "Adoption: replaces the constraints of a table that ours take the place of.",
    "adopt_function(text, text)": "Adoption: makes or replaces a function; the one before is kept for a downgrade.",
    "adopt_indexes(text)": "Adoption: renames indexes of a table that have the name of one of ours and are others.",
    "adopt_rights(text)": "Adoption: gives a table our policies and grants.",
    "adopt_table(text)": "Adoption: makes a table, or brings the one that is there into our shape.",
    "adopt_view(text, text)": "Adoption: makes or replaces a view; the one before is kept for a downgrade.",
    "adoption_losses(text, text)": "Adoption: counts the rows that a downgrade would lose.",
    "adoption_steps(text)": "Adoption: returns the statements that a table still needs, outside a transaction.",
    "change(text, text, text, text, text)": "Adoption: runs a statement, and records what undoes it.",
    "close_tables()": "Adoption: revokes what clients were granted on our tables and what we do not grant.",
    "delete_lost(regclass, text)": "Adoption: deletes rows that the older shape cannot hold, when a downgrade may.",
    "drop_readers(regclass, text, text)": "Adoption: drops views of a column, and returns what makes them again.",
    "drop_replaced_triggers(text)": "Adoption: drops triggers of a table that ours take the place of.",
    "entitle(text, text, text, text[])": "Adoption: grants roles of the team's own what their statements now need.",
    "finish_adoption(text)": "Adoption: ends that of a table, after the last of its steps.",
    "for_roles(name[], text)": "Adoption: runs a statement if the roles in it still exist.",
    "granted(regclass)": "Adoption: returns the roles of the team's own that have a right on a table.",
    "grants_of(text, text, oid, aclitem[], oid)": "Adoption: returns the grants on an object as statements.",
    "index_text(oid, text)": "Adoption: returns the definition of an index under another name.",
    "is_adopted(text)": "Adoption: tells whether an object was there before the first upgrade.",
    "keep_policies(text)": "Adoption: keeps the team's policies of a table for the roles of the team's own.",
    "keep_policy(regclass, name)": "Adoption: records a policy as the team's own.",
    "policy_text(oid, regclass)": "Adoption: returns the statement that makes a policy.",
    "release(text)": "Adoption: undoes every recorded change of an object, the last one first.",
    "replaced_uniques(text)": "Adoption: returns unique constraints of a table that an index of ours replaces.",
    "restore_values(text)": "Adoption: puts back the values that an upgrade changed in a table.",
    "role_list(oid[])": "Adoption: returns the names of roles, as a statement lists them.",
    "row_key(regclass, text)": "Adoption: returns an expression for the primary key of a row.",
    "run_or_replace(text, text, text)": "Adoption: runs a CREATE OR REPLACE; where that cannot be, drops and creates.",
    "set_column_type(regclass, text, text)": "Adoption: changes the type of a column, and makes its views again.",
    "view_text(regclass)": "Adoption: returns the statements that make a view.",
    # what others have made on and around our tables
    "is_administrator(oid)": "Tells whether a role is the owner of our tables or of the database, or a superuser.",
    "note_surroundings()": "Notes what weakens our tables before the first upgrade changes anything.",
    "objects_around()": "Returns objects of others on and over our tables: views, functions, triggers, keys.",
    "our_relations()": "Returns the tables and views of the schema.",
    "reached_by(aclitem[], oid, text[])": "Returns the roles that a list of grants lets at an object.",
    "rights_around()": "Returns grants, default privileges, settings and publications that reach our tables.",
    "sees_all(oid)": "Tells whether a role sees every row anyway.",
    "settle_surroundings()": "Records what was noted, at the end of the first upgrade, as the team's own.",
    "surroundings()": "Returns everything of others around our tables. chat-schema verify asks it.",
    "table_owner()": "Returns the role that owns our tables.",
    "unsettle_surroundings()": "Notes again what was recorded, when the end of the first upgrade is undone.",
}

COMMENTS = {
    **{
        f"COLUMN {name.partition(' ')[2]}.{part}" if part else name: comment
        for name, parts in OF_RELATIONS.items()
        for part, comment in parts.items()
    },
    **{f"FUNCTION public.{name}": comment for name, comment in OF_PUBLIC_FUNCTIONS.items()},
    **{f"FUNCTION chat_internal.{name}": comment for name, comment in OF_INTERNAL_FUNCTIONS.items()},
}


def upgrade() -> None:
    op.set_comments(COMMENTS)


def downgrade() -> None:
    op.set_comments(dict.fromkeys(COMMENTS), instead_of=COMMENTS)
