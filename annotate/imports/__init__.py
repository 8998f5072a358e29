"""Imports: how a file of prompts, pairs or gold comparisons is uploaded, read, checked and written."""
