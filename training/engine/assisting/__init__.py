"""Assisted training: pairs of fresh completions that a probe judges, beside those that people judged."""
