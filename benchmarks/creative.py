"""What creative sessions cost a user: a session looked up, a page of a long one, what a session and a user have cost.

    python -m benchmarks.creative [--messages 20000] [--rounds 51]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at. A user has one session of ``--messages``,
its questions and replies at the same time, and half as many messages in sessions of 50, among 4 users with as much.

* **ms** is the server's time for the user, under the policies, planning included: the median of the rounds.
* **on CPU** is what the server's process worked meanwhile (Linux): the rest of the time other programs had the machine.
* **of the owner** is the ratio of that to the same statement as the owner of the tables, whom no policy binds.
* **limit** is what the original document allows, in ms; it is held against the time on CPU.
"""

from __future__ import annotations

import argparse
from uuid import UUID

import sqlalchemy as sa

from app import queries
from app.models import ConversationSession
from app.queries import MessagePosition
from benchmarks.as_a_user import filled, measure

USER, SESSION = UUID(int=1), UUID(int=2)
SMALL = 50  # messages of every other session

FILL = f"""
SET session_replication_role = replica;  -- no keys, no triggers
INSERT INTO users (id) SELECT '{USER}'::uuid UNION ALL SELECT md5('user ' || n)::uuid FROM generate_series(1, 4) AS n;
INSERT INTO brands (id, user_id, name) SELECT id, id, 'Soap' FROM users;
INSERT INTO conversation_sessions (id, brand_id, user_id)
  SELECT CASE WHEN u.id = '{USER}' AND n = 0 THEN '{SESSION}' ELSE md5(u.id || ' ' || n)::uuid END, u.id, u.id
  FROM users AS u, generate_series(0, :messages / 2 / {SMALL}) AS n;
INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content, provider, model_used, tokens_used,
                                   cost_usd, latency_ms, created_at)
  SELECT s.id, s.brand_id, s.user_id, CASE m % 2 WHEN 1 THEN 'user' ELSE 'director' END,
         repeat('Soap that smells of rain. ', 10), 'acme', 'acme-' || m % 3, m % 900, m % 100 / 10000.0, m % 2000,
         timestamptz '2026-01-01' + (m + 1) / 2 * interval '1 minute'
  FROM generate_series(1, :messages) AS m JOIN conversation_sessions AS s
    ON m <= CASE WHEN s.id IN ('{SESSION}', md5(s.user_id || ' 0')::uuid) THEN :messages ELSE {SMALL} END
  ORDER BY m, s.id;
SET session_replication_role = DEFAULT;
"""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=20_000, help="of the long session")
    parser.add_argument("--rounds", type=int, default=51)
    options = parser.parse_args()
    with filled(FILL.replace(":messages", str(options.messages))) as connection:
        found = connection.execute(
            "SELECT created_at, seq FROM conversation_messages WHERE session_id = %s"
            " ORDER BY created_at, seq OFFSET %s LIMIT 1",
            [SESSION, options.messages // 2],
        ).fetchone()
        assert found is not None
        middle = MessagePosition(*found)
        asked = {
            "a session by its id": (1.0, sa.select(ConversationSession).where(ConversationSession.id == SESSION)),
            "the first page of the session": (5.0, queries.session_history(SESSION)),
            "a page in its middle": (5.0, queries.session_history(SESSION, after=middle)),
            "its last page": (5.0, queries.session_history_backwards(SESSION)),
            "get_conversation_history()": (5.0, f"SELECT * FROM public.get_conversation_history('{SESSION}')"),
            "the cost of the session": (10.0, queries.session_cost(SESSION)),
            "get_session_cost()": (10.0, f"SELECT public.get_session_cost('{SESSION}')"),
            "the cost of the user": (10.0, queries.user_cost(USER)),
        }
        print(f"{options.messages:,} messages of the session, {options.messages * 3 // 2:,} of the user")
        print(f"{'':<32}{'ms':>9}{'on CPU':>9}{'of the owner':>14}{'pages':>8}{'limit':>8}")
        for name, (limit, statement) in asked.items():
            taken = measure(connection, USER, statement, options.rounds)
            owner = measure(connection, None, statement, options.rounds)
            over = "!" if taken.on_cpu > limit else ""
            print(
                f"{name:<32}{taken.milliseconds:>9.2f}{taken.on_cpu:>9.2f}{taken.on_cpu / owner.on_cpu:>14.2f}"
                f"{taken.pages:>8.0f}{limit:>8.0f}{over}",
                flush=True,
            )
        print("! is over the limit")


if __name__ == "__main__":
    main()
