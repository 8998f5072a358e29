"""Preference pairs as rows: TRL's preference format, with where each pair came from.

Rows are streamed: a batch of pairs is in memory at a time. Free-form objects (metadata, sampling settings) are JSON
text inside their column, so that every row has the same types and any reader of tables takes the file.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from django.db.models import Exists, OuterRef, Q

from annotate.models import Judgment, Project, Snapshot
from annotate.pairs.aggregation import Pair, Vote, read_votes
from annotate.pairs.filters import Filters, sift
from annotate.pairs.frozen.rows import stored_pairs, stored_ratings
from annotate.pairs.settings import PairSettings
from annotate.pairs.texts import (
    AT_A_TIME,
    Texts,
    as_text,
    in_one_type,
    in_order,
    parse,
    read_ahead,
    shared_prompt_ids,
)
from annotate.people.pseudonyms import pseudonym
from annotate.sources.candidates import order_completions
from primitives.chunks import chunks

NO_LABEL = 0.0  # of a comparison whose completions are both bad; the label of a pair is at least one half
Judged = tuple[Pair, Sequence[Vote]]
PAIR_COLUMNS = (
    "prompt", "chosen", "rejected", "label", "margin", "weight", "held_out", "external_id", "metadata",
    "comparison", "kind", "batch", "prompt_id", "prompt_external_id", "prompt_metadata", "tools",
    "prompt_token_ids",
    *(
        f"{side}_{name}"
        for side in ("chosen", "rejected")
        for name in ("completion", "policy", "token_ids", "finish_reason", "seed", "logprob", "sampling")
    ),
    "judgments", "annotators", "verdicts", "strengths", "votes_chosen", "votes_rejected", "votes_tie",
    "chosen_left", "imported",
    "snapshot",
)  # fmt: skip


def pair_rows(
    project: Project,
    filters: Filters | None = None,
    settings: PairSettings | None = None,
    snapshot: Snapshot | None = None,
    *,
    both_bad: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield the project's pairs as they are now, or a snapshot's as they were frozen, as rows for TRL.

    Ties are left out unless `filters` takes them: neither completion was chosen. Of a snapshot, `filters` takes
    `held_out`, `ties` and `without` alone. `both_bad` adds the comparisons that are none because both
    completions are bad, with the label None; of a snapshot those whose completions it holds as ratings.
    """
    filters = filters or Filters()
    if snapshot is None:
        judged, digest = _present(project, filters, settings, both_bad=both_bad), None
    else:
        judged, digest = _frozen(snapshot, filters), snapshot.digest
        if both_bad:
            judged = chain(judged, _frozen_ratings(snapshot, filters))
    for some, read in read_ahead(judged, _comparison_of):
        for pair, votes in some:
            texts = read[pair.comparison]
            if snapshot is not None or texts.first.text != texts.second.text:
                yield _row(pair, votes, texts, digest)


def _comparison_of(judged: Judged) -> int:
    return judged[0].comparison


def _present(
    project: Project, filters: Filters, settings: PairSettings | None, *, both_bad: bool
) -> Iterator[Judged]:
    """Yield the pairs that leave unless their completions are equal, each with the votes that made it."""
    for decision, reason in sift(project, filters, settings, equal=()):
        pair, votes = decision.made, decision.votes
        if reason is None and isinstance(pair, Pair):
            if len(pair.judgments) < len(votes):
                votes = [vote for vote in votes if vote.pk in pair.judgments]
            yield pair, votes
        elif both_bad and reason == "both_bad":
            row = votes[0]
            yield Pair(row.comparison, row.first, row.second, NO_LABEL, 0.0, 1.0, row.held_out, ()), []


def _frozen(snapshot: Snapshot, filters: Filters) -> Iterator[Judged]:
    """Yield the pairs that a snapshot holds, each with the votes that made it."""
    only = Q()
    if filters.ties != "include":
        only &= Q(label=0.5) if filters.ties == "only" else Q(label__gt=0.5)
    only &= _on_side(filters)
    for unwanted in filters.unwanted().values():
        only &= ~Q(Exists(snapshot.pairs.filter(unwanted, pk=OuterRef("pk")).order_by()))
    for some in chunks(stored_pairs(snapshot, only), AT_A_TIME):
        keys = [judgment for pair in some for judgment in pair.judgments]
        votes = {vote.pk: vote for vote in read_votes(Judgment.objects.filter(pk__in=keys))}
        for pair in some:
            yield pair, [votes[judgment] for judgment in pair.judgments]


def _frozen_ratings(snapshot: Snapshot, filters: Filters) -> Iterator[Judged]:
    """Yield the comparisons of which a snapshot holds both completions as ratings."""
    for comparison, some in groupby(stored_ratings(snapshot, _on_side(filters)), key=itemgetter(0)):
        one, *others = some
        for other in others:
            yield Pair(comparison, one.completion, other.completion, NO_LABEL, 0.0, 1.0, one.held_out, ()), []


def _on_side(filters: Filters) -> Q:
    """Return the condition on rows of a snapshot that the filter of held-out prompts is."""
    return Q() if filters.side is None else Q(held_out=filters.side)


def _row(pair: Pair, votes: Sequence[Vote], texts: Texts, snapshot: str | None) -> dict[str, Any]:
    chosen, rejected = texts.completions(pair.chosen)
    prompt, chosen_text, rejected_text = in_one_type(parse(texts.prompt), chosen.content, rejected.content)
    said = _columns_of(votes, chosen.pk)
    verdicts = said[1]
    return {
        "prompt": prompt,
        "chosen": chosen_text,
        "rejected": rejected_text,
        "label": pair.label or None,
        "margin": pair.margin,
        "weight": pair.weight,
        "held_out": bool(texts.held_out),
        "external_id": texts.external_id,
        "metadata": _metadata(texts, chosen.pk, rejected.pk),
        "comparison": pair.comparison,
        "kind": texts.kind,
        "batch": texts.batch,
        "prompt_id": texts.prompt_id,
        "prompt_external_id": texts.prompt_external_id,
        "prompt_metadata": in_order(texts.prompt_metadata),
        "tools": in_order(texts.tools) if texts.tools else None,
        "prompt_token_ids": shared_prompt_ids(chosen, rejected),
        "chosen_completion": chosen.pk,
        "chosen_policy": chosen.policy,
        "chosen_token_ids": parse(chosen.token_ids),
        "chosen_finish_reason": chosen.finish_reason,
        "chosen_seed": chosen.seed,
        "chosen_logprob": chosen.logprob,
        "chosen_sampling": in_order(chosen.sampling),
        "rejected_completion": rejected.pk,
        "rejected_policy": rejected.policy,
        "rejected_token_ids": parse(rejected.token_ids),
        "rejected_finish_reason": rejected.finish_reason,
        "rejected_seed": rejected.seed,
        "rejected_logprob": rejected.logprob,
        "rejected_sampling": in_order(rejected.sampling),
        "judgments": list(pair.judgments),
        "annotators": said[0],
        "verdicts": verdicts,
        "strengths": said[2],
        "votes_chosen": verdicts.count("chosen"),
        "votes_rejected": verdicts.count("rejected"),
        "votes_tie": verdicts.count("tie"),
        "chosen_left": said[3],
        "imported": said[4],
        "snapshot": snapshot,
    }


def _metadata(texts: Texts, chosen: int, rejected: int) -> str:
    """Return the metadata of a comparison. What it says of its completions follows the columns: chosen, rejected."""
    if chosen == texts.first.pk or '"completions"' not in texts.metadata:
        return in_order(texts.metadata)
    return as_text(order_completions(json.loads(texts.metadata), (rejected, chosen), (chosen, rejected)))


def _columns_of(
    votes: Sequence[Vote], chosen: int
) -> tuple[list[str], list[str], list[Any], list[Any], list[bool]]:
    """Return annotators, verdicts, strengths, whether each saw the chosen completion on the left, and was imported."""
    annotators, verdicts, strengths, chosen_left, imported = [], [], [], [], []
    for vote in votes:
        preferred = vote.preferred
        annotators.append(pseudonym(vote.annotator))
        verdicts.append("tie" if preferred is None else "chosen" if preferred == chosen else "rejected")
        strengths.append(vote.strength)
        chosen_left.append(vote.left == chosen if vote.sides_known else None)
        imported.append(bool(vote.import_batch))
    return annotators, verdicts, strengths, chosen_left, imported
