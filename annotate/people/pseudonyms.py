"""The names under which annotators leave in files."""


def pseudonym(user_id: int) -> str:
    """Return an annotator's pseudonym, which is the same in all exports."""
    return f"annotator-{user_id}"
