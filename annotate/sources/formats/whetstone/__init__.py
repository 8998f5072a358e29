"""Whetstone's own files: prompts and pairs to judge, and what it exports."""
