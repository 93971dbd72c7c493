"""chat-schema: one PostgreSQL schema for chat products, its models and the revisions that lead to it."""

from typing import TYPE_CHECKING

if __name__ == "app":  # in a checkout alone: what is installed is chat_schema, and nothing else
    from .one_package import lend_name

    lend_name(__name__)

from .offered import __getattr__ as __getattr__

if TYPE_CHECKING:
    from .revision import RevisionError, require_head, require_head_async

    __all__ = ["RevisionError", "require_head", "require_head_async"]
