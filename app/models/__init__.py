"""The schema at head as SQLAlchemy models, for sync and async sessions. `base` says how they load."""

from app.models.base import Base
from app.models.chat_message import ChatMessage
from app.models.conversation import Conversation
from app.models.creative_session import Brand, ConversationMessage, ConversationSession, SessionMessageRole
from app.models.message import Message, MessageRole
from app.models.task import Task
from app.models.tenant import Tenant, TenantRole, TenantUser
from app.models.user import User

__all__ = [
    "Base",
    "Brand",
    "ChatMessage",
    "Conversation",
    "ConversationMessage",
    "ConversationSession",
    "Message",
    "MessageRole",
    "SessionMessageRole",
    "Task",
    "Tenant",
    "TenantRole",
    "TenantUser",
    "User",
]
