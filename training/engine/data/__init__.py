"""From texts and chats to token ids and packed rows."""
