"""Expand messages by how a reply came about: how it ended, who wrote it, what it used and cost, what it is made of.

What:   on messages the columns status, error, provider, model, finish_reason, input_tokens, output_tokens,
        cached_tokens, reasoning_tokens, cost_usd, latency_ms and parts, with four CHECKs, not yet validated.
Why:    a reply is stored when it begins, as streaming, and ends as complete, interrupted or error. So a reader sees it
        being written, and a reply whose process died can be found. content stays its plain text; parts holds beside it
        what is more than text: tool calls and their results, files, reasoning. Every part is an object with one of five
        types. status has a constant default and every other column is NULL: no row is written, and clients that do not
        know the columns go on. NaN is greater than every number, so a cost is refused that is NaN: it would spoil sums.
Locks:  AccessExclusive on public.messages, an instant.
Undone: the columns are dropped; refused while a message says something in them.

Revision ID: 0062
Revises: 0061
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0062"
down_revision = "0061"
branch_labels = None
depends_on = None

LOOK = """
    SELECT pg_catalog.format('The table %s has a column %I of your own, and one of that name comes to it. '
        'Rename yours and what your application calls it.', c.oid::regclass, a.attname) AS says,
      pg_catalog.format('ALTER TABLE %s RENAME COLUMN %I TO %I;', c.oid::regclass, a.attname,
        'own_' || a.attname) AS mends,
      NULL AS rows, false AS unsafe
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.oid = pg_catalog.to_regclass('public.messages') AND c.relkind IN ('r', 'p')
      AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname IN ('status', 'error', 'provider', 'model', 'finish_reason', 'input_tokens', 'output_tokens',
                        'cached_tokens', 'reasoning_tokens', 'cost_usd', 'latency_ms', 'parts')
    ORDER BY a.attnum
"""

SAID = (
    ("error", JSONB()),
    ("provider", sa.Text()),
    ("model", sa.Text()),
    ("finish_reason", sa.Text()),
    ("input_tokens", sa.Integer()),
    ("output_tokens", sa.Integer()),
    ("cached_tokens", sa.Integer()),
    ("reasoning_tokens", sa.Integer()),
    ("cost_usd", sa.Numeric(10, 6)),
    ("latency_ms", sa.Integer()),
    ("parts", JSONB()),
)
CHECKS = {
    "status": "status IN ('streaming', 'complete', 'interrupted', 'error')",
    "error": "jsonb_typeof(error) = 'object'",
    "usage": "least(input_tokens, output_tokens, cached_tokens, reasoning_tokens, latency_ms) >= 0"
    " AND cost_usd >= 0 AND cost_usd <> 'NaN'",
    # those of the five types are all of them; in strict mode an element that is no object is none
    "parts": "jsonb_path_query_array(parts, 'strict $[*]"
    " ? (@.type like_regex \"^(text|tool_call|tool_result|file|reasoning)$\")', '{}', true) = parts",
}
WRITTEN = ", ".join(("status", *(name for name, _ in SAID)))


def upgrade() -> None:
    complete = sa.Column("status", sa.String(20), server_default=sa.text("'complete'"), nullable=False)
    op.add_column("messages", complete, schema="public")
    for name, kind in SAID:
        op.add_column("messages", sa.Column(name, kind, nullable=True), schema="public")
    for name, condition in CHECKS.items():
        op.create_check_constraint(
            op.f(f"ck_messages_{name}"), "messages", condition, schema="public", postgresql_not_valid=True
        )
    rights = f"INSERT ({WRITTEN}), UPDATE ({WRITTEN})"
    op.grant_more("messages", authenticated=rights, service_role=rights)


def downgrade() -> None:
    said = " OR ".join(f"{name} IS NOT NULL" for name, _ in SAID)
    op.refuse_data_loss(
        "notes on how messages came about", f"SELECT count(*) FROM public.messages WHERE status <> 'complete' OR {said}"
    )
    for name in ("status", *(name for name, _ in SAID)):
        op.drop_column("messages", name, schema="public")  # the CHECKs go with them
