"""The pages of policies in use."""
