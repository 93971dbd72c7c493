"""chat-schema: one PostgreSQL schema for chat products, its models and the revisions that lead to it."""

if __name__ == "app":  # in a checkout alone: what is installed is chat_schema, and nothing else
    from .one_package import lend_name

    lend_name(__name__)
