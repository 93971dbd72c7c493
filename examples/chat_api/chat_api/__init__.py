"""A chat service and its page on chat-schema. `python -m chat_api` runs it."""
