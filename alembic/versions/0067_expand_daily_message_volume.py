"""Expand daily_message_volume to read the days that are asked for.

What:   the view counts day by day, for each day between the first and the last message.
Why:    grouped by a day that is computed from each message, a week read every message there is. A condition on the day
        now chooses days first, and each is a range of created_at that an index has. Messages from before 2000 and after
        2099 are few, and are grouped as before: one of the year 1 must not make 700,000 days.
Locks:  AccessExclusive on public.daily_message_volume, an instant.
Undone: the view groups all messages again.

Revision ID: 0067
Revises: 0066
"""

from alembic import op

revision = "0067"
down_revision = "0066"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.sql(
        """
        CREATE OR REPLACE VIEW public.daily_message_volume WITH (security_invoker = true) AS
        SELECT d.day, v.role, v.message_count, v.total_cost
        FROM (
          SELECT generate_series(
            date_trunc('day', greatest(min(m.created_at), '2000-01-01 00:00:00+00'), 'UTC'),
            least(max(m.created_at), '2099-12-31 00:00:00+00'),
            interval '24 hours'
          ) AS day
          FROM public.conversation_messages AS m
        ) AS d
        CROSS JOIN LATERAL (
          SELECT m.role, count(*) AS message_count, sum(m.cost_usd) AS total_cost
          FROM public.conversation_messages AS m
          WHERE m.created_at >= d.day AND m.created_at < d.day + interval '24 hours'
          GROUP BY m.role
        ) AS v
        UNION ALL
        SELECT date_trunc('day', m.created_at, 'UTC'), m.role, count(*), sum(m.cost_usd)
        FROM public.conversation_messages AS m
        WHERE m.created_at < '2000-01-01 00:00:00+00' OR m.created_at >= '2100-01-01 00:00:00+00'
        GROUP BY date_trunc('day', m.created_at, 'UTC'), m.role
        """
    )


def downgrade() -> None:
    op.sql(
        """
        CREATE OR REPLACE VIEW public.daily_message_volume WITH (security_invoker = true) AS
        SELECT date_trunc('day', m.created_at, 'UTC') AS day, m.role, count(*) AS message_count,
               sum(m.cost_usd) AS total_cost
        FROM public.conversation_messages AS m
        GROUP BY date_trunc('day', m.created_at, 'UTC'), m.role
        """
    )
