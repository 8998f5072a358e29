"""Rounds: planned, led by a worker, followed, judged. No module here knows a request."""
