"""A file on its way in: received, recognised, checked and shown, whole or in steps."""
