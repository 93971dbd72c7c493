"""Three users with one task and one conversation each."""

from uuid import UUID

ANN = UUID("0000000a-0000-4000-8000-000000000001")
BEN = UUID("0000000a-0000-4000-8000-000000000002")
CAT = UUID("0000000a-0000-4000-8000-000000000003")

ROWS = f"""
INSERT INTO users (id) VALUES ('{ANN}'), ('{BEN}'), ('{CAT}');
INSERT INTO tasks (user_id, title) SELECT id, 'Buy milk' FROM users;
INSERT INTO conversations (user_id) SELECT id FROM users;
"""
