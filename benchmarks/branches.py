"""What a page of a branch takes a user: at the end, in the middle and at the beginning of what is long or wide.

    python -m benchmarks.branches [--rounds 21]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at. A thread of 5,000 messages without branches;
one of 5,000 of which each names its parent; and a tree of 1,000 leaves, 1,000 replies to one question at the end of 20
turns. Planning is included. A page of 50 should take the same wherever it is.
"""

from __future__ import annotations

import argparse
from uuid import UUID

from app import queries
from benchmarks.as_a_user import filled, measure

USER, TRUNK, CHAIN, TREE = (UUID(int=number) for number in range(1, 5))
LONG, LEAVES = 5_000, 1_000

FILL = f"""
INSERT INTO users (id) VALUES ('{USER}');
INSERT INTO conversations (id, user_id) VALUES ('{TRUNK}', '{USER}'), ('{CHAIN}', '{USER}'), ('{TREE}', '{USER}');
SET session_replication_role = replica;  -- no keys, no triggers
INSERT INTO messages (id, conversation_id, user_id, role, content, created_at, parent_id)
  SELECT md5(c || ' ' || n)::uuid, c, '{USER}', 'user', repeat('Two seats on Friday, please. ', 10),
         timestamptz '2026-01-01' + n * interval '1 second',
         CASE WHEN c = '{CHAIN}' AND n > 1 THEN md5(c || ' ' || n - 1)::uuid END
  FROM unnest(ARRAY['{TRUNK}', '{CHAIN}']::uuid[]) AS c, generate_series(1, {LONG}) AS n;
INSERT INTO messages (id, conversation_id, user_id, role, content, created_at, parent_id)
  SELECT md5('{TREE} ' || n)::uuid, '{TREE}', '{USER}', 'user', repeat('Two seats on Friday, please. ', 10),
         timestamptz '2026-01-01' + n * interval '1 second',
         CASE WHEN n > 20 THEN md5('{TREE} 20')::uuid WHEN n > 1 THEN md5('{TREE} ' || n - 1)::uuid END
  FROM generate_series(1, 20 + {LEAVES}) AS n;
UPDATE conversations SET head_message_id = md5('{CHAIN} ' || {LONG})::uuid WHERE id = '{CHAIN}';
UPDATE conversations SET head_message_id = md5('{TREE} ' || 20 + {LEAVES})::uuid WHERE id = '{TREE}';
SET session_replication_role = DEFAULT;
"""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    with filled(FILL) as connection:

        def message(conversation: UUID, number: int) -> UUID:
            row = connection.execute(f"SELECT md5('{conversation} {number}')::uuid".encode()).fetchone()
            assert row is not None
            found: UUID = row[0]
            return found

        asked = {
            **{
                f"{name}, {where}": queries.branch(thread, before=message(thread, before) if before else None)
                for name, thread in (("5,000 in a row", TRUNK), ("5,000 by their parents", CHAIN))
                for where, before in (("the end", None), ("the middle", LONG // 2), ("the beginning", 51))
            },
            "1,000 leaves, the branch": queries.branch(TREE),
            "1,000 leaves, alternatives": queries.siblings(TREE, message(TREE, 500)),
            "the end, by time alone": queries.thread_backwards(TRUNK),
        }
        print(f"{'a page of 50':<40}{'ms':>8}{'pages':>8}")
        for name, statement in asked.items():
            taken = measure(connection, USER, statement, rounds)
            print(f"{name:<40}{taken.milliseconds:>8.2f}{taken.pages:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
