"""Shapes that come in and go out, each with an example that the schema shows."""
