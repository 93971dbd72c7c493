"""chat-schema: one PostgreSQL schema for chat products, its models and the revisions that lead to it."""
