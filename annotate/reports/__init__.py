"""Figures about judgments: agreement, quality, an annotator's own work, and the search of comparisons.

Everything here reads. Nothing here writes.
"""
