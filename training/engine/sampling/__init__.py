"""Completions written token by token."""
