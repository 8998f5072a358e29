"""Judged comparisons as rows: both completions, and every judgment about them, ties and skips included."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Exists, OuterRef

from annotate.judgments.aspects import titles_of
from annotate.models import Aspect, Comparison, Judgment, Project
from annotate.pairs.filters import Filters
from annotate.pairs.settings import PairSettings
from annotate.pairs.texts import in_one_type, parse, with_json_as_text
from annotate.people.pseudonyms import pseudonym
from primitives.chunks import chunks

AT_A_TIME = 500
Kind = Comparison.Kind


class _Judged(NamedTuple):
    """The columns of a comparison that its row holds."""

    pk: int
    external_id: str
    metadata: str
    kind: str
    batch: str
    arm: str
    propensity: float | None
    gold_preferred_id: int | None
    prompt__content: str
    prompt__external_id: str
    prompt__metadata: str
    prompt__tools: str | None
    prompt__held_out: bool
    first_id: int
    first__text: str
    first__messages: str | None
    first__policy__name: str
    second_id: int
    second__text: str
    second__messages: str | None
    second__policy__name: str

    def side(self, completion: int | None) -> str | None:
        """Return "a" for the first completion, "b" for the second, None for none."""
        return "a" if completion == self.first_id else "b" if completion == self.second_id else None


class _Said(NamedTuple):
    """The columns of a judgment that its comparison's row holds."""

    comparison_id: int
    pk: int
    annotator_id: int
    verdict: str
    preferred_id: int | None
    strength: int | None
    left_id: int
    sides_known: bool
    import_batch: str
    rationale: str
    reasons: str
    criteria: str
    seconds: float | None
    late: bool
    too_fast: bool
    first_at: datetime


def comparison_rows(
    project: Project, filters: Filters | None = None, settings: PairSettings | None = None
) -> Iterator[dict[str, Any]]:
    """Yield one row a comparison with its present judgments.

    Comparisons that were withdrawn, repeats, and gold unless `settings` includes it, are left out as they are from
    the pairs.
    """
    filters, settings = filters or Filters(), settings or PairSettings()
    judgments = Judgment.objects.current().filter(filters.judgments(), project=project)
    left_out = [Kind.REPEAT] if settings.include_gold else [Kind.REPEAT, Kind.GOLD]
    comparisons = (
        Comparison.objects.filter(Exists(judgments.filter(comparison=OuterRef("pk"))), project=project)
        .filter(withdrawn_at=None)
        .exclude(kind__in=left_out)
        .order_by("pk")
        .values_list(*with_json_as_text(_Judged._fields))
        .iterator(chunk_size=AT_A_TIME)
    )
    reasons, criteria = project.all_reasons, project.all_criteria
    for some in chunks(map(_Judged._make, comparisons), AT_A_TIME):
        said = _read_judgments(judgments, [comparison.pk for comparison in some])
        for comparison in some:
            if len(said[comparison.pk]) >= settings.min_judgments:
                theirs = [_judgment(one, comparison, reasons, criteria) for one in said[comparison.pk]]
                yield _row(comparison, theirs)


def _read_judgments(judgments: Any, comparisons: Iterable[int]) -> dict[int, list[_Said]]:
    """Return the judgments of these comparisons, in the order in which they were given."""
    said: dict[int, list[_Said]] = {key: [] for key in comparisons}
    rows = judgments.filter(comparison__in=said).order_by("pk").values_list(*with_json_as_text(_Said._fields))
    for one in map(_Said._make, rows):
        said[one.comparison_id].append(one)
    return said


def _row(judged: _Judged, judgments: list[dict[str, Any]]) -> dict[str, Any]:
    first = judged.first__text if judged.first__messages is None else parse(judged.first__messages)
    second = judged.second__text if judged.second__messages is None else parse(judged.second__messages)
    prompt, first, second = in_one_type(parse(judged.prompt__content), first, second)
    return {
        "prompt": prompt,
        "completion_a": first,
        "completion_b": second,
        "policy_a": judged.first__policy__name,
        "policy_b": judged.second__policy__name,
        "id": judged.external_id,
        "metadata": parse(judged.metadata),
        "prompt_external_id": judged.prompt__external_id,
        "prompt_metadata": parse(judged.prompt__metadata),
        "tools": parse(judged.prompt__tools),
        "gold": judged.side(judged.gold_preferred_id),
        "held_out": judged.prompt__held_out,
        "comparison": judged.pk,
        "kind": judged.kind,
        "batch": judged.batch,
        "arm": judged.arm or None,
        "propensity": judged.propensity,
        "judgments": judgments,
    }


def _judgment(said: _Said, judged: _Judged, reasons: list[Aspect], criteria: list[Aspect]) -> dict[str, Any]:
    by_criterion = parse(said.criteria)
    return {
        "judgment": said.pk,
        "annotator": pseudonym(said.annotator_id),
        "verdict": judged.side(said.preferred_id) or said.verdict,
        "strength": said.strength,
        "left": judged.side(said.left_id) if said.sides_known else None,
        "imported": bool(said.import_batch),
        "rationale": said.rationale,
        "reasons": titles_of(reasons, parse(said.reasons)),
        "criteria": {key: _by_side(one, judged) for key, one in by_criterion.items()},
        "criterion_titles": titles_of(criteria, by_criterion),
        "seconds": said.seconds,
        "late": said.late,
        "too_fast": said.too_fast,
        "at": said.first_at.isoformat(),
    }


def _by_side(said: dict[str, Any], judged: _Judged) -> dict[str, Any]:
    """Return what was said by a criterion with its completion as "a" or "b": the row has no other names of them."""
    if "preferred_id" not in said:
        return said
    others = {key: value for key, value in said.items() if key != "preferred_id"}
    return {**others, "preferred": judged.side(said["preferred_id"])}
