"""Create what every table leans on: the three roles, the schema for internals, the caller's identity.

What:   roles anon, authenticated and service_role where the server has them not; in chat_internal the functions
        current_user_id(), has_auth_users() and default_conversation_id(), the names of the roles and the positions of
        backfills.
Why:    policies ask who the caller is through one function, so that the rule stands in one place. It reads the two
        settings that PostgREST and our own services fill per transaction; after that transaction they read '' and
        not NULL. Whether a platform keeps the accounts is asked of the catalog by the shape of auth.users alone: a
        schema auth can be somebody else's, into which we may not look. Internal tables are the owner's alone: no grant,
        and a policy that lets nobody in, so that a check for tables without a policy finds none. Two writers meet on
        one conversation of a user because its id follows from the user's. Anyone can work it out, so such ids have a
        range of their own (UUID version 8, all begin with "chatde"), and a CHECK of conversations keeps each for its
        user.
Locks:  none on existing tables.
Undone: everything is dropped except the roles, which belong to the server and not to this database.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic.util import CommandError

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LOOK = """
    SELECT pg_catalog.format('The login may not create roles, and the role %I is missing. Have an administrator make '
        'it (another name: -x anon-role=, authenticated-role=, service-role=).', r.name) AS says,
      pg_catalog.format('CREATE ROLE "%s" NOLOGIN;', pg_catalog.replace(r.name, '"', '""')) AS mends,
      NULL AS rows, false AS unsafe
    FROM pg_catalog.unnest({roles}) AS r (name), pg_catalog.pg_roles AS me
    WHERE me.rolname = current_user AND NOT me.rolcreaterole AND NOT me.rolsuper
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS o WHERE o.rolname = r.name)
"""


def upgrade() -> None:
    if not hasattr(op.get_context().opts.get("engine_options"), "roles"):  # what our env.py alone hands over
        raise CommandError(
            "These are the revisions of chat-schema, run by an env.py that is not theirs, so nothing of them was run: "
            "one deployer at a time, waiting for locks and undoing what failed would be missing. Leave them out of "
            "version_locations and run `chat-schema upgrade head` before `alembic upgrade head`; in a revision of your "
            'own, op.require_chat_schema("0042") takes the place of depends_on.'
        )
    op.create_missing_roles()
    op.grant_schema_usage("chat_internal", to=["authenticated", "service_role"])

    # lint: ignore function-search-path -- it names the schema of each name, and a path would double its cost
    op.sql(
        """
        -- every statement of a user calls it. PL/pgSQL keeps its plan, a function in SQL would be planned each time; a
        -- search_path of its own would cost as much as the rest. So each name in it has its schema, operators too, and
        -- what stands for NULLIF, whose operator is looked up on the caller's path, is an array: of '' it is empty
        CREATE FUNCTION chat_internal.current_user_id() RETURNS uuid
        LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
        BEGIN
          RETURN coalesce(
            (pg_catalog.string_to_array(pg_catalog.current_setting('request.jwt.claim.sub', true), ''))[1],
            (pg_catalog.string_to_array(
              (pg_catalog.string_to_array(pg_catalog.current_setting('request.jwt.claims', true), ''))[1]
              ::pg_catalog.jsonb OPERATOR(pg_catalog.->>) 'sub', ''))[1]
          )::pg_catalog.uuid;
        END
        $$
        """
    )
    op.grant_only("FUNCTION chat_internal.current_user_id()", authenticated="EXECUTE", service_role="EXECUTE")

    op.create_table(
        "backfill_progress",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name="backfill_progress_pkey"),
        schema="chat_internal",
    )
    op.create_table(
        "role_names",
        sa.Column("logical", sa.Text(), nullable=False),
        sa.Column("actual", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("logical", name="role_names_pkey"),
        schema="chat_internal",
    )
    op.record_role_names("chat_internal.role_names")
    for table in ("alembic_version", "backfill_progress", "role_names"):
        op.enable_row_level_security(f"chat_internal.{table}")
        op.create_policy(f"{table}_none", f"chat_internal.{table}", "ALL", to="authenticated", using="false")
        op.grant_only(f"chat_internal.{table}")

    op.sql(
        """
        CREATE FUNCTION chat_internal.has_auth_users() RETURNS boolean
        LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
          SELECT EXISTS (
            SELECT FROM pg_catalog.pg_class AS c
            JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            JOIN pg_catalog.pg_attribute AS i ON i.attrelid = c.oid AND i.attname = 'id'
            JOIN pg_catalog.pg_attribute AS e ON e.attrelid = c.oid AND e.attname = 'email'
            JOIN pg_catalog.pg_attribute AS t ON t.attrelid = c.oid AND t.attname = 'created_at'
            JOIN pg_catalog.pg_constraint AS k
              ON k.conrelid = c.oid AND k.contype IN ('p', 'u') AND k.conkey = ARRAY[i.attnum]
            WHERE n.nspname = 'auth' AND c.relname = 'users' AND c.relkind = 'r'
              AND i.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype
              AND e.atttypid IN ('pg_catalog.varchar'::pg_catalog.regtype, 'pg_catalog.text'::pg_catalog.regtype)
              AND t.atttypid = 'pg_catalog.timestamptz'::pg_catalog.regtype
          )
        $$
        """
    )
    op.grant_only("FUNCTION chat_internal.has_auth_users()")

    op.sql(
        """
        -- 63686174-6465-8xxx: 74 bits of the digest are left, and version and variant are those of RFC 9562
        CREATE FUNCTION chat_internal.default_conversation_id(p_user_id uuid) RETURNS uuid
        LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
          SELECT pg_catalog.encode(
            pg_catalog.set_byte(
              pg_catalog.set_byte(d.bytes, 6, (pg_catalog.get_byte(d.bytes, 6) & 15) | 128),
              8, (pg_catalog.get_byte(d.bytes, 8) & 63) | 128
            ), 'hex'
          )::pg_catalog.uuid
          FROM (
            SELECT pg_catalog.convert_to('chatde', 'UTF8') || pg_catalog.substring(
              pg_catalog.sha256(
                pg_catalog.convert_to('chat-schema default conversation ' || p_user_id::pg_catalog.text, 'UTF8')
              ), 7, 10
            ) AS bytes
          ) AS d
        $$
        """
    )
    op.grant_only(
        "FUNCTION chat_internal.default_conversation_id(uuid)", authenticated="EXECUTE", service_role="EXECUTE"
    )
    # who inserts a conversation executes what its CHECK calls, a role of the team's own too; the schema stays shut
    op.sql("GRANT EXECUTE ON FUNCTION chat_internal.default_conversation_id(uuid) TO PUBLIC")


def downgrade() -> None:
    op.sql("DROP FUNCTION chat_internal.default_conversation_id(uuid)")
    op.sql("DROP FUNCTION chat_internal.has_auth_users()")
    op.drop_policy("alembic_version_none", "chat_internal.alembic_version")
    op.sql("ALTER TABLE chat_internal.alembic_version DISABLE ROW LEVEL SECURITY")
    # lint: ignore downgrade-destroys -- what the roles are called, which the next upgrade writes again
    op.drop_table("role_names", schema="chat_internal")
    # lint: ignore downgrade-destroys -- positions of backfills that are undone
    op.drop_table("backfill_progress", schema="chat_internal")
    op.sql("DROP FUNCTION chat_internal.current_user_id()")
    op.revoke_schema_usage("chat_internal", of=["authenticated", "service_role"])
