"""chat-schema: one PostgreSQL schema for chat products, its models and the revisions that lead to it.

The package goes by two names that lead to the same modules: ``chat_schema``, which nothing else is called, and ``app``,
for projects that have no package ``app`` of their own.
"""

if __name__ == "app":
    from .one_package import lend_name

    lend_name(__name__)
