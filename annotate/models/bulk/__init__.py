"""Many rows at once, in the way that each database does fastest: found by an index, stored by COPY."""
