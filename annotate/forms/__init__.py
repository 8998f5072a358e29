"""The forms of the pages. A form checks what was sent, and names the field of every error."""
