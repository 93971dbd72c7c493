"""The schema at head as SQLAlchemy models, for sync and async sessions. `base` says how they load."""

from .attachment import Attachment
from .base import Base
from .chat_message import ChatMessage
from .conversation import Conversation
from .creative_session import Brand, ConversationMessage, ConversationSession, SessionMessageRole
from .feedback import Feedback, Rating
from .llm_provider import UserLlmProvider
from .message import Message, MessageRole, MessageStatus, PartType
from .retention import RetentionHold, RetentionRule
from .share import Share
from .task import Task
from .tenant import Tenant, TenantRole, TenantUser
from .user import User

TABLES = frozenset(Base.metadata.tables)
"""The names of our tables; those that a service adds to the metadata are not among them."""

__all__ = [
    "TABLES",
    "Attachment",
    "Base",
    "Brand",
    "ChatMessage",
    "Conversation",
    "ConversationMessage",
    "ConversationSession",
    "Feedback",
    "Message",
    "MessageRole",
    "MessageStatus",
    "PartType",
    "Rating",
    "RetentionHold",
    "RetentionRule",
    "SessionMessageRole",
    "Share",
    "Task",
    "Tenant",
    "TenantRole",
    "TenantUser",
    "User",
    "UserLlmProvider",
]
