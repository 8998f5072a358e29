"""The choice of comparisons: which candidates are shown to annotators, and how likely each was."""
