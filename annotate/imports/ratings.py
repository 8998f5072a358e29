"""Ratings of single completions, put in pairs: a good and a bad one of the same prompt make a comparison."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations, groupby, islice
from typing import Any

from annotate.sources.candidates import Candidate, Opinion
from annotate.text.chats import content_key

ANSWERS = 64  # of one candidate, and ratings of one prompt that are read together


def pair_ratings(candidates: Iterable[tuple[int, Candidate]]) -> Iterator[tuple[int, Candidate]]:
    """Put ratings of single completions in pairs, where a good and a bad one of the same prompt follow each other.

    Yields each (line, candidate). A rating that finds no other stays as it is, and `expand` refuses it by name.
    """
    for key, alike in groupby(candidates, key=lambda one: _rating_key(one[1])):
        group = iter(alike)
        rated = list(islice(group, ANSWERS)) if key else []
        used: set[int] = set()
        for (at, (_line, one)), (other_at, (line, other)) in combinations(enumerate(rated), 2):
            if pair := _pair_of_ratings(one, other):
                used |= {at, other_at}
                yield line, pair
        yield from (found for at, found in enumerate(rated) if at not in used)
        yield from group


def _rating_key(candidate: Candidate) -> str:
    """Return what ratings of completions of the same prompt share. Empty for what is not a rating."""
    is_rating = len(candidate.answers) == 1 and candidate.opinions
    return content_key([{"prompt": candidate.prompt, "tools": candidate.tools}]) if is_rating else ""


def _pair_of_ratings(one: Candidate, other: Candidate) -> Candidate | None:
    """Return two ratings as one candidate, or None if no annotator rated them differently."""
    first, second = ({opinion.annotator: opinion for opinion in found.opinions} for found in (one, other))
    opinions = tuple(
        Opinion(
            (first[name].scores[0], second[name].scores[0]),
            annotator=name,
            rationale="\n\n".join(filter(None, (first[name].rationale, second[name].rationale))),
            at=second[name].at or first[name].at,
        )
        for name in first
        if name in second
        and first[name].scores
        and second[name].scores
        and first[name].scores != second[name].scores
    )
    if not opinions:
        return None
    metadata, of_answers = _split_metadata(one, other)
    ids = dict.fromkeys(found.external_id for found in (one, other) if found.external_id)
    return replace(
        one,
        answers=tuple(
            answer._replace(metadata={**answer.metadata, **own})
            for answer, own in zip((*one.answers, *other.answers), of_answers, strict=True)
        ),
        opinions=opinions,
        external_id="/".join(ids),
        metadata=metadata or None,
        losses=(*one.losses, *other.losses),
    )


def _split_metadata(one: Candidate, other: Candidate) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what two ratings' metadata have in common, or only one has, and for each what the other contradicts."""
    first, second = dict(one.metadata or {}), dict(other.metadata or {})
    differing = {key for key in first.keys() & second.keys() if first[key] != second[key]}
    shared = {key: value for key, value in {**first, **second}.items() if key not in differing}
    own = [
        {key: value for key, value in metadata.items() if key in differing} for metadata in (first, second)
    ]
    return shared, own
