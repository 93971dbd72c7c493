"""Who is who in these tests, and the rows they own.

The owner owns one row of everything: some of it personal, some in the tenant Acme, which it shares with a co-member.
The foreigner belongs to another tenant, the other user to none. Everybody has a task and a personal conversation.
"""

from uuid import UUID

OWNER = UUID("0000000a-0000-4000-8000-000000000001")
CO_MEMBER = UUID("0000000a-0000-4000-8000-000000000002")
FOREIGNER = UUID("0000000a-0000-4000-8000-000000000003")
OTHER = UUID("0000000a-0000-4000-8000-000000000004")

ACME = UUID("0000000b-0000-4000-8000-000000000001")
GLOBEX = UUID("0000000b-0000-4000-8000-000000000002")

PERSONAL = UUID("0000000c-0000-4000-8000-000000000001")  # the owner's conversation that belongs to no tenant
OF_ACME = UUID("0000000c-0000-4000-8000-000000000002")  # the owner's conversation in the tenant Acme
OF_OTHER = UUID("0000000c-0000-4000-8000-000000000003")
OF_CO_MEMBER = UUID("0000000c-0000-4000-8000-000000000004")
OF_FOREIGNER = UUID("0000000c-0000-4000-8000-000000000005")

# The message in each conversation.
PERSONAL_MESSAGE = UUID("0000000f-0000-4000-8000-000000000001")
TENANT_MESSAGE = UUID("0000000f-0000-4000-8000-000000000002")

BRAND = UUID("0000000d-0000-4000-8000-000000000001")
SESSION = UUID("0000000e-0000-4000-8000-000000000001")

# The co-member even runs Acme: a role in a tenant opens nobody's conversations.
ROWS = f"""
INSERT INTO users (id, email, password_hash) VALUES
  ('{OWNER}', 'owner@example.org', 'hash'), ('{CO_MEMBER}', 'co-member@example.org', 'hash'),
  ('{FOREIGNER}', 'foreigner@example.org', 'hash'), ('{OTHER}', 'other@example.org', 'hash');
INSERT INTO tenants (id, name) VALUES ('{ACME}', 'Acme'), ('{GLOBEX}', 'Globex');
INSERT INTO tenant_users (tenant_id, user_id, role) VALUES
  ('{ACME}', '{OWNER}', 'member'), ('{ACME}', '{CO_MEMBER}', 'owner'), ('{GLOBEX}', '{FOREIGNER}', 'owner');
INSERT INTO tasks (user_id, title) SELECT id, 'Buy milk' FROM users;
INSERT INTO conversations (id, user_id, tenant_id) VALUES
  ('{PERSONAL}', '{OWNER}', NULL), ('{OF_ACME}', '{OWNER}', '{ACME}'), ('{OF_OTHER}', '{OTHER}', NULL),
  ('{OF_CO_MEMBER}', '{CO_MEMBER}', NULL), ('{OF_FOREIGNER}', '{FOREIGNER}', NULL);
INSERT INTO messages (id, conversation_id, user_id, role, content)
  SELECT overlay(id::text PLACING '0000000f' FROM 1)::uuid, id, user_id, 'user', 'Hello' FROM conversations;
INSERT INTO attachments (user_id, conversation_id, message_id, name, media_type, size_bytes, sha256, storage_key)
  SELECT user_id, conversation_id, id, 'plan.pdf', 'application/pdf', 3, sha256('abc'), id::text FROM messages;
INSERT INTO feedback (message_id, user_id, conversation_id, rating)
  SELECT id, user_id, conversation_id, 1 FROM messages;
INSERT INTO shares (user_id, conversation_id, message_id, token_hash)
  SELECT user_id, conversation_id, id, sha256(id::text::bytea) FROM messages;
INSERT INTO chat_messages (conversation_id, user_id, role, content)
  SELECT id, user_id, 'user', 'Hello' FROM conversations;
INSERT INTO user_llm_providers (user_id, provider, ciphertext, key_id) SELECT id, 'acme', 'sealed', 'a' FROM users;
INSERT INTO retention_holds (conversation_id, user_id) SELECT id, user_id FROM conversations;
INSERT INTO retention_rules (tenant_id) VALUES ('{ACME}');
INSERT INTO brands (id, user_id, name) VALUES ('{BRAND}', '{OWNER}', 'Soap');
INSERT INTO conversation_sessions (id, brand_id, user_id) VALUES ('{SESSION}', '{BRAND}', '{OWNER}');
INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content, provider, tokens_used, cost_usd)
  VALUES ('{SESSION}', '{BRAND}', '{OWNER}', 'director', 'Think of soap', 'acme-llm', 100, 0.25);
"""
