"""Primitives that every part of Whetstone may import: files written whole, statistics of counts, storable text.

Pure Python on the standard library. Nothing here knows Django, PyTorch or any other package of Whetstone.
"""
