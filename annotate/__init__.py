"""The annotation application: what people see and judge, and the preference pairs that come of it.

Its packages form layers, which pyproject.toml lists from top to bottom; docs/architecture.md names every module.
"""
