"""Columns that a person maps, and what is proposed for them."""
