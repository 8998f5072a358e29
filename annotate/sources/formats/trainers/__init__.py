"""The formats that trainers read: one prompt, a completion that is preferred, and one that is not."""
