"""Policies in use: tried, taken away, brought in from elsewhere, given names."""
