"""Files of others, read: formats, chats, and what is refused."""
