"""Validate what messages say of how they came about.

What:   the four CHECKs of 0062 are checked against the rows that stood.
Why:    the rows that stood have the defaults, which meet them; `chat-schema verify` asks for CHECKs that are validated.
Locks:  ShareUpdateExclusive on public.messages for one scan: reads and writes go on.
Undone: the CHECKs are there again, not validated.

Revision ID: 0064
Revises: 0063
"""

from alembic import op

revision = "0064"
down_revision = "0063"
branch_labels = None
depends_on = None

CHECKS = {
    "status": "status IN ('streaming', 'complete', 'interrupted', 'error')",
    "error": "jsonb_typeof(error) = 'object'",
    "usage": "least(input_tokens, output_tokens, cached_tokens, reasoning_tokens, latency_ms) >= 0"
    " AND cost_usd >= 0 AND cost_usd <> 'NaN'",
    "parts": "jsonb_path_query_array(parts, 'strict $[*]"
    " ? (@.type like_regex \"^(text|tool_call|tool_result|file|reasoning)$\")', '{}', true) = parts",
}


def upgrade() -> None:
    # one command for all: one scan
    validated = ", ".join(f"VALIDATE CONSTRAINT ck_messages_{name}" for name in CHECKS)
    op.sql(f"ALTER TABLE public.messages {validated}")


def downgrade() -> None:
    for name, condition in CHECKS.items():
        op.drop_constraint(op.f(f"ck_messages_{name}"), "messages", schema="public")
        op.create_check_constraint(
            op.f(f"ck_messages_{name}"), "messages", condition, schema="public", postgresql_not_valid=True
        )
