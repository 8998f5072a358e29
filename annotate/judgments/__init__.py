"""Verdicts: what an annotator may say about a comparison, and how it is recorded.

`judging` is the only writer of Judgment. Drafts and flags, which are written before the verdict, belong here too.
"""
