"""The judgments of a project or a snapshot as votes, from which a probe learns: `votes.jsonl` of a run directory."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet

from annotate.models import Comparison, Completion, Judgment, Project, Snapshot
from annotate.pairs.aggregation import untrainable
from annotate.pairs.frozen.rows import stored_pairs
from annotate.pairs.snapshots import training_rows
from annotate.pairs.texts import AT_A_TIME, Texts, as_prompted, parse, read_texts, shared_prompt_ids
from annotate.people.pseudonyms import pseudonym
from primitives.chunks import chunks
from training.standings.gates import opinions

FinishReason = Completion.FinishReason
MIN_PREFERENCES = 40  # of which a probe is worth fitting
MOST_COMPARISONS = 4_096  # the newest: features of more would take long, and teach little
_RENAMED = {"chosen": "first", "rejected": "second"}
_NOT_OF_VOTES = ("label", "margin", "weight")


class Vote(NamedTuple):
    """A current judgment that compares two completions."""

    comparison: int
    annotator: int
    verdict: str
    preferred: int | None
    gold: int | None


def has_enough(project: Project) -> bool:
    """Return whether there are enough preferences to fit a probe to."""
    found = _judgments(project).filter(verdict=Judgment.Verdict.PREFER)[:MIN_PREFERENCES]
    return found.count() >= MIN_PREFERENCES


def project_votes(project: Project, base_model: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of votes.jsonl: comparisons to train on, each with its votes. Those on held-out prompts are not.

    Both bad is a tie. Token ids of another model than `base_model` are left out, as they mean other words to it.
    """
    newest = _judgments(project).order_by("-comparison").values_list("comparison", flat=True).distinct()
    kept = list(newest[:MOST_COMPARISONS])
    columns = ("comparison", "annotator", "verdict", "preferred", "comparison__gold_preferred")
    found = _judgments(project).filter(comparison__gte=kept[-1] if kept else 0).order_by("comparison", "pk")
    votes = map(Vote._make, found.values_list(*columns).iterator())
    by_comparison = ((key, list(some)) for key, some in groupby(votes, key=attrgetter("comparison")))
    for some in chunks(by_comparison, AT_A_TIME):
        texts = read_texts([key for key, _votes in some])
        for key, votes_of_one in some:
            yield _row(key, votes_of_one, texts[key], base_model)


def snapshot_votes(snapshot: Snapshot, base_model: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of votes.jsonl: each pair that is trained on, with the votes that count and a known answer."""
    given = {
        key: (annotator, preferred)
        for key, annotator, preferred in Judgment.objects.filter(snapshot_pairs__snapshot=snapshot)
        .values_list("pk", "annotator_id", "preferred_id")
        .iterator()
    }
    known = snapshot.pairs.exclude(comparison__gold_preferred=None)
    gold = dict(known.values_list("comparison_id", "comparison__gold_preferred_id"))
    pairs = stored_pairs(snapshot, Q(held_out=False))
    rows = training_rows(snapshot, base_model=base_model)
    for pair, row in zip(pairs, rows, strict=False):  # ratings come after the pairs, and are not votes
        sides = {pair.chosen: "first", pair.rejected: "second"}
        answer = sides.get(gold.get(pair.comparison, 0))
        yield {
            **({"gold": answer} if answer else {}),
            **{_renamed(name): value for name, value in row.items() if name not in _NOT_OF_VOTES},
            "votes": [
                {"annotator": pseudonym(annotator), "prefers": sides.get(preferred, "tie")}
                for annotator, preferred in (given[key] for key in pair.judgments)
            ],
        }


def _judgments(project: Project) -> QuerySet[Judgment]:
    found = opinions().filter(
        project=project,
        comparison__kind__in=(Comparison.Kind.STANDARD, Comparison.Kind.GOLD),
        comparison__withdrawn_at=None,
        comparison__prompt__held_out=False,
    )
    return found.exclude(untrainable())


def _row(key: int, votes: Sequence[Vote], texts: Texts, base_model: str) -> dict[str, Any]:
    prompt = parse(texts.prompt)
    sides = {"first": texts.first, "second": texts.second}
    names = {completion.pk: side for side, completion in sides.items()}
    row: dict[str, Any] = {"id": str(key), "prompt": prompt}
    if tools := parse(texts.tools):
        row["tools"] = tools
    for side, completion in sides.items():
        row[side] = as_prompted(prompt, completion.content)
        if completion.base_model == base_model and (ids := parse(completion.token_ids)):
            row[f"{side}_token_ids"] = ids
        if completion.finish_reason != FinishReason.UNKNOWN:
            row[f"{side}_finish_reason"] = completion.finish_reason
    given = shared_prompt_ids(texts.first, texts.second)
    if given and "first_token_ids" in row and "second_token_ids" in row:
        row["prompt_token_ids"] = given
    if gold := names.get(votes[0].gold or 0):
        row["gold"] = gold
    row["votes"] = [
        {"annotator": pseudonym(vote.annotator), "prefers": names.get(vote.preferred or 0, "tie")}
        for vote in votes
    ]
    return row


def _renamed(name: str) -> str:
    """Return a key of pairs.jsonl as votes.jsonl has it."""
    side, dot, rest = name.partition("_")
    return _RENAMED.get(side, side) + dot + rest
