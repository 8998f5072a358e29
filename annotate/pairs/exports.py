"""Preference pairs in TRL's preference format, and judgments, as JSON Lines or CSV with their provenance.

Rows are streamed: a batch of pairs is in memory at a time. Free-form objects (metadata, sampling settings) are JSON
text inside their column, so that every row has the same types and any reader of tables takes the file.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, cast

from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Coalesce

from annotate.judgments.aspects import titles_of
from annotate.models import Comparison, Judgment, Project, Snapshot, SnapshotPair
from annotate.pairs.aggregation import Pair, decide
from annotate.pairs.snapshots import PairSettings, as_prompted, canonical, shared_prompt_ids, stored_pairs
from primitives.files import whole_file

AT_A_TIME = 500
FORMULA = frozenset("=+-@")  # what a formula in a spreadsheet begins with


HELD_OUT = {"leave": False, "include": True, "only": None}  # what forms and commands call Filters.held_out

PAIR_COLUMNS = (
    "prompt", "chosen", "rejected", "label", "margin", "weight", "held_out", "external_id", "metadata",
    "comparison", "kind", "batch", "prompt_id", "prompt_external_id", "prompt_metadata", "prompt_token_ids",
    *(
        f"{side}_{name}"
        for side in ("chosen", "rejected")
        for name in ("completion", "policy", "token_ids", "finish_reason", "seed", "logprob", "sampling")
    ),
    "judgments", "annotators", "votes_chosen", "votes_rejected", "votes_tie", "chosen_left", "snapshot",
)  # fmt: skip
JUDGMENT_COLUMNS = (
    "judgment", "comparison", "external_id", "metadata", "kind", "batch", "gold", "held_out", "prompt_id",
    "prompt_external_id", "prompt_metadata", "annotator", "verdict", "preferred", "strength", "skip_reason", "left",
    "right", "left_policy", "right_policy", "reasons", "reason_titles", "criteria", "criterion_titles", "rationale",
    "seconds", "late", "too_fast", "replaces", "current", "first_at", "created_at",
)  # fmt: skip


@dataclass(frozen=True)
class Filters:
    """Which rows. `since`: comparisons with a judgment from then on. `annotator`: only this person's judgments.

    `policy`: comparisons with a completion of it. `held_out`: held-out prompts too (True), none (False), or None
    for nothing else than held-out prompts: they are for evaluation, not for training.
    """

    since: datetime | None = None
    annotator: int | None = None
    kind: str = ""
    policy: int | None = None
    batch: str = ""
    min_judgments: int = 1
    held_out: bool | None = False

    def judgments(self) -> Q:
        """Return the condition on Judgment."""
        found = Q()
        if self.since:
            later = Judgment.objects.filter(comparison=OuterRef("comparison"), created_at__gte=self.since)
            found &= Q(Exists(later.current()))
        if self.annotator:
            found &= Q(annotator=self.annotator)
        if self.kind:
            found &= Q(comparison__kind=self.kind)
        if self.policy:
            found &= Q(comparison__first__policy=self.policy) | Q(comparison__second__policy=self.policy)
        if self.batch:
            found &= Q(comparison__batch=self.batch)
        if self.held_out is not True:
            found &= Q(comparison__prompt__held_out=self.held_out is None)
        return found


def pseudonym(user_id: int) -> str:
    """Return an annotator's pseudonym, which is the same in all exports."""
    return f"annotator-{user_id}"


# --- Pairs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    comparison: int
    chosen: int
    label: float
    margin: float
    weight: float
    judgments: tuple[int, ...]


def export_rows(
    project: Project,
    filters: Filters | None = None,
    settings: PairSettings | None = None,
    snapshot: Snapshot | None = None,
) -> Iterator[dict[str, Any]]:
    """Return the project's pairs as they are now, or a snapshot's as they were frozen, as rows for TRL.

    Ties are left out: neither completion was chosen. Of a snapshot, `filters` takes `held_out` alone.
    """
    filters = filters or Filters()
    rows = _frozen(snapshot, filters) if snapshot else _present(project, filters, settings or PairSettings())
    while some := list(islice(rows, AT_A_TIME)):
        yield from _with_texts(some, snapshot)


def _present(project: Project, filters: Filters, settings: PairSettings) -> Iterator[_Row]:
    for pair, _votes in decide(project, settings, filters.judgments()):
        if isinstance(pair, Pair) and pair.label > 0.5 and len(pair.judgments) >= filters.min_judgments:
            yield _Row(pair.comparison, pair.chosen, pair.label, pair.margin, pair.weight, pair.judgments)


def _frozen(snapshot: Snapshot, filters: Filters) -> Iterator[_Row]:
    pairs = SnapshotPair.objects.filter(snapshot=snapshot, label__gt=0.5).order_by("comparison_id")
    if filters.held_out is not True:
        pairs = pairs.filter(held_out=filters.held_out is None)
    for pair in pairs.prefetch_related("judgments").iterator(chunk_size=AT_A_TIME):
        judgments = tuple(sorted(judgment.pk for judgment in pair.judgments.all()))
        yield _Row(pair.comparison_id, pair.chosen_id, pair.label, pair.margin, pair.weight, judgments)


def exact_lines(snapshot: Snapshot) -> Iterator[bytes]:
    """Return a snapshot's pairs in the canonical form: the SHA-256 of these lines is its digest.

    Ids are those of the database that it was frozen in. Of a snapshot that has forgotten pairs, the others are left.
    """
    pairs = stored_pairs(snapshot).prefetch_related("judgments")
    for pair in pairs.iterator(chunk_size=AT_A_TIME):
        yield canonical(
            comparison=pair.comparison_id - snapshot.comparison_shift,
            prompt=pair.comparison.prompt.content,
            chosen=pair.chosen.text,
            rejected=pair.rejected.text,
            label=pair.label,
            margin=pair.margin,
            weight=pair.weight,
            held_out=pair.held_out,
            judgments=sorted(judgment.pk - snapshot.judgment_shift for judgment in pair.judgments.all()),
        )


def _with_texts(rows: list[_Row], snapshot: Snapshot | None) -> Iterator[dict[str, Any]]:
    comparisons = Comparison.objects.select_related("prompt", "first__policy", "second__policy").in_bulk(
        [row.comparison for row in rows]
    )
    judgments = Judgment.objects.in_bulk([judgment for row in rows for judgment in row.judgments])
    for row in rows:
        comparison = comparisons[row.comparison]
        first_chosen = row.chosen == comparison.first_id
        chosen, rejected = (
            (comparison.first, comparison.second) if first_chosen else (comparison.second, comparison.first)
        )
        votes = [judgments[judgment] for judgment in row.judgments]
        prompt = comparison.prompt
        yield {
            "prompt": prompt.content,
            "chosen": as_prompted(prompt.content, chosen.text),
            "rejected": as_prompted(prompt.content, rejected.text),
            "label": row.label,
            "margin": row.margin,
            "weight": row.weight,
            "held_out": prompt.held_out,
            "external_id": comparison.external_id,
            "metadata": _json(comparison.metadata),
            "comparison": comparison.pk,
            "kind": comparison.kind,
            "batch": comparison.batch,
            "prompt_id": prompt.pk,
            "prompt_external_id": prompt.external_id,
            "prompt_metadata": _json(prompt.metadata),
            "prompt_token_ids": shared_prompt_ids(chosen, rejected),
            **_provenance("chosen", chosen),
            **_provenance("rejected", rejected),
            "judgments": list(row.judgments),
            "annotators": [pseudonym(vote.annotator_id) for vote in votes],
            "votes_chosen": sum(vote.preferred_id == chosen.pk for vote in votes),
            "votes_rejected": sum(vote.preferred_id == rejected.pk for vote in votes),
            "votes_tie": sum(vote.verdict == Judgment.Verdict.TIE for vote in votes),
            # Whether each annotator saw the chosen completion on the left.
            "chosen_left": [vote.left_id == chosen.pk for vote in votes],
            "snapshot": snapshot.digest if snapshot else None,
        }


def _provenance(name: str, completion: Any) -> dict[str, Any]:
    return {
        f"{name}_completion": completion.pk,
        f"{name}_policy": completion.policy.name,
        f"{name}_token_ids": completion.token_ids,
        f"{name}_finish_reason": completion.finish_reason,
        f"{name}_seed": completion.seed,
        f"{name}_logprob": completion.logprob,
        f"{name}_sampling": _json(completion.sampling),
    }


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


# --- Judgments ---------------------------------------------------------------------------------------------------


def judgment_rows(project: Project, filters: Filters | None = None) -> Iterator[dict[str, Any]]:
    """One row a judgment, history too (`current` is false there), in the order in which they were given."""
    condition = (filters or Filters(held_out=True)).judgments()
    reasons, criteria = project.all_reasons, project.all_criteria
    of_comparison = {
        "kind": F("comparison__kind"),
        "batch": F("comparison__batch"),
        "gold": F("comparison__gold_preferred"),
        # A repeat has that of what it repeats.
        "external_id": Coalesce("comparison__repeat_of__external_id", "comparison__external_id"),
        "metadata": F("comparison__metadata"),
        "prompt_id": F("comparison__prompt"),
        "prompt_external_id": F("comparison__prompt__external_id"),
        "prompt_metadata": F("comparison__prompt__metadata"),
        "held_out": F("comparison__prompt__held_out"),
        "left_policy": F("left__policy__name"),
        "right_policy": F("right__policy__name"),
    }
    judgments = Judgment.objects.filter(condition, project=project).annotate(**of_comparison)
    for values in judgments.order_by("pk").values().iterator(chunk_size=2_000):
        row = cast(dict[str, Any], values)  # the stubs do not know what was annotated
        found = row | {
            "judgment": row["id"],
            "comparison": row["comparison_id"],
            "metadata": _json(row["metadata"]),
            "prompt_metadata": _json(row["prompt_metadata"]),
            "annotator": pseudonym(row["annotator_id"]),
            "preferred": row["preferred_id"],
            "left": row["left_id"],
            "right": row["right_id"],
            "reason_titles": titles_of(reasons, row["reasons"]),
            "criteria": _json(row["criteria"]),
            "criterion_titles": titles_of(criteria, row["criteria"]),
            "replaces": row["replaces_id"],
            "current": row["superseded_at"] is None,
            "first_at": row["first_at"].isoformat(),
            "created_at": row["created_at"].isoformat(),
        }
        yield {column: found[column] for column in JUDGMENT_COLUMNS}


# --- Writing -----------------------------------------------------------------------------------------------------


def lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Rows as JSON Lines in UTF-8."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass") + b"\n"


def csv_lines(
    rows: Iterable[Mapping[str, Any]], columns: Iterable[str], *, for_spreadsheets: bool = False
) -> Iterator[bytes]:
    """Rows as CSV in UTF-8 with a header: what is no text or number is JSON in its cell.

    `for_spreadsheets`: an apostrophe stands before texts that a spreadsheet would take for a formula, and run.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    buffer.write("\ufeff")  # by which a spreadsheet knows that it is UTF-8
    writer.writerow(columns)
    for row in rows:
        writer.writerow(_cell(value, for_spreadsheets) for value in row.values())
        yield buffer.getvalue().encode("utf-8", "surrogatepass")
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()  # the header, if there is no row


def _cell(value: Any, for_spreadsheets: bool) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return f"'{value}" if for_spreadsheets and _is_formula(value) else value


def _is_formula(text: str) -> bool:
    """Return whether a spreadsheet may compute this text: by an operator, in full width or behind blanks too."""
    if text.startswith(("\t", "\r", "\n")):
        return True  # some programs drop these
    first = next((letter for letter in text if not _is_blank(letter)), "")
    return unicodedata.normalize("NFKC", first) in FORMULA


def _is_blank(letter: str) -> bool:
    return letter.isspace() or unicodedata.category(letter) in (
        "Cc",
        "Cf",
    )  # without width, as U+200B and U+FEFF


def write_file(path: Path, encoded: Iterable[bytes]) -> None:
    """Write lines to a file that appears whole or not at all."""
    with whole_file(path) as file:
        for line in encoded:
            file.write(line)


def find_snapshot(project: Project, digest: str) -> Snapshot | None:
    """Return the project's snapshot whose digest is, or begins with, this. None if there is not exactly one."""
    found = list(Snapshot.objects.filter(project=project, digest__startswith=digest)[:2]) if digest else []
    return found[0] if len(found) == 1 else None
