"""The JSON API under /api/v1/: the same functions as the pages call, with one shape for every error."""
