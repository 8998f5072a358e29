"""The rows that depend on what is forgotten, found at a cost that a large project can bear."""

from typing import Any

from training.provenance.consequences import person_targets


def test_dependents_are_found_by_indexes(project: Any, teammate: Any) -> None:
    """An OR of two subqueries is asked of each row of a table: of a million, PostgreSQL never came to an end."""
    [target] = person_targets(teammate, project)
    for rows in (target.judgments, target.pairs, target.ratings):
        assert " OR " not in str(rows.query)
        assert list(rows) == []
