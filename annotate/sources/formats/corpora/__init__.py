"""Published collections: completions that were rated, ranked or compared."""
