"""Preference pairs in TRL's preference format, and judgments, as JSON Lines or CSV with their provenance.

Rows are streamed: a chunk of pairs is in memory at a time. Free-form objects (metadata, sampling settings) are JSON
text inside their column, so that every row has the same types and any reader of tables takes the file.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson
from django.db.models import F, TextField
from django.db.models.functions import Cast, Coalesce

from annotate.judgments.aspects import titles_of
from annotate.models import Comparison, Judgment, Project, Snapshot, SnapshotPair
from annotate.pairs.aggregation import Pair
from annotate.pairs.filters import Filters, sift
from annotate.pairs.snapshots import PairSettings, as_prompted, canonical, stored_pairs
from annotate.text.chats import Content
from primitives.files import whole_file

AT_A_TIME = 500
FORMULA = frozenset("=+-@")  # what a formula in a spreadsheet begins with


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
JUDGMENT_COLUMNS = (
    "judgment", "comparison", "external_id", "metadata", "kind", "batch", "gold", "held_out", "prompt_id",
    "prompt_external_id", "prompt_metadata", "annotator", "imported", "verdict", "preferred", "strength", "skip_reason",
    "left", "right", "left_policy", "right_policy", "reasons", "reason_titles", "criteria", "criterion_titles",
    "rationale", "seconds", "late", "too_fast", "replaces", "current", "first_at", "created_at",
)  # fmt: skip


def pseudonym(user_id: int) -> str:
    """Return an annotator's pseudonym, which is the same in all exports."""
    return f"annotator-{user_id}"


# --- Pairs -------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    comparison: int
    chosen: int
    label: float | None  # None of a comparison whose completions are both bad
    margin: float
    weight: float
    judgments: tuple[int, ...]


def export_rows(
    project: Project,
    filters: Filters | None = None,
    settings: PairSettings | None = None,
    snapshot: Snapshot | None = None,
    *,
    both_bad: bool = False,
) -> Iterator[dict[str, Any]]:
    """Return the project's pairs as they are now, or a snapshot's as they were frozen, as rows for TRL.

    Ties are left out unless `filters` takes them: neither completion was chosen. Of a snapshot, `filters` takes
    `held_out` and `ties` alone. `both_bad` adds the comparisons that are none because both completions are bad, with
    the label None.
    """
    filters = filters or Filters()
    rows = _frozen(snapshot, filters) if snapshot else _present(project, filters, settings, both_bad)
    while some := list(islice(rows, AT_A_TIME)):
        yield from _with_texts(some, snapshot.digest if snapshot else None)


def _present(
    project: Project, filters: Filters, settings: PairSettings | None, both_bad: bool
) -> Iterator[_Row]:
    for decision, reason in sift(project, filters, settings):
        pair = decision.made
        if reason is None and isinstance(pair, Pair):
            yield _Row(pair.comparison, pair.chosen, pair.label, pair.margin, pair.weight, pair.judgments)
        elif both_bad and reason == "both_bad":
            yield _Row(decision.comparison, decision.first, None, 0.0, 1.0, ())


def _frozen(snapshot: Snapshot, filters: Filters) -> Iterator[_Row]:
    pairs = SnapshotPair.objects.filter(snapshot=snapshot).order_by("comparison_id")
    if filters.ties != "include":
        pairs = pairs.filter(label=0.5) if filters.ties == "only" else pairs.filter(label__gt=0.5)
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
            tools=pair.comparison.prompt.tools,
            chosen=pair.chosen.content,
            rejected=pair.rejected.content,
            label=pair.label,
            margin=pair.margin,
            weight=pair.weight,
            held_out=pair.held_out,
            judgments=sorted(judgment.pk - snapshot.judgment_shift for judgment in pair.judgments.all()),
        )


_COMPLETION = (
    "pk", "text", "messages", "policy__name", "token_ids", "finish_reason", "seed", "logprob", "sampling",
    "prompt_token_ids",
)  # fmt: skip
_COLUMNS = (
    "pk", "kind", "batch", "external_id", "metadata", "prompt_id", "prompt__content", "prompt__held_out",
    "prompt__external_id", "prompt__metadata", "prompt__tools",
    *(f"{side}__{name}" for side in ("first", "second") for name in _COMPLETION),
)  # fmt: skip
_JSON = (
    "metadata",
    "content",
    "tools",
    "messages",
    "token_ids",
    "sampling",
)  # how the names of columns of JSON end


def _columns() -> list[Any]:
    """Return the columns of a comparison. JSON comes as text: most of it is empty, or a plain text."""
    return [Cast(name, TextField()) if name.endswith(_JSON) else name for name in _COLUMNS]


class _Completion(NamedTuple):
    """The columns of a completion that a row holds."""

    pk: int
    text: str
    messages: str | None
    policy: str
    token_ids: str | None
    finish_reason: str
    seed: int | None
    logprob: float | None
    sampling: str
    prompt_token_ids: str | None


class _Vote(NamedTuple):
    """The columns of a judgment that a row holds."""

    annotator: int
    verdict: str
    preferred: int | None
    strength: int | None
    left: int
    sides_known: bool
    import_batch: str


def _with_texts(rows: list[_Row], snapshot: str | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a chunk. Plain tuples: rows of models cost several times as much."""
    comparisons = {
        found[0]: found
        for found in Comparison.objects.filter(pk__in=[row.comparison for row in rows]).values_list(
            *_columns()
        )
    }
    names = ("annotator_id", "verdict", "preferred_id", "strength", "left_id", "sides_known", "import_batch")
    keys = [judgment for row in rows for judgment in row.judgments]
    votes = {
        found[0]: _Vote._make(found[1:])
        for found in Judgment.objects.filter(pk__in=keys).values_list("pk", *names)
    }
    first, second = len(_COLUMNS) - 2 * len(_COMPLETION), len(_COLUMNS) - len(_COMPLETION)
    for row in rows:
        found = comparisons[row.comparison]
        chosen, rejected = _Completion._make(found[first:second]), _Completion._make(found[second:])
        if row.chosen != chosen.pk:
            chosen, rejected = rejected, chosen
        cast_votes = [votes[judgment] for judgment in row.judgments]
        yield _row(row, found, chosen, rejected, votes=cast_votes, snapshot=snapshot)


def _row(
    row: _Row,
    comparison: tuple[Any, ...],
    chosen: _Completion,
    rejected: _Completion,
    *,
    votes: list[_Vote],
    snapshot: str | None,
) -> dict[str, Any]:
    (
        key,
        kind,
        batch,
        external_id,
        metadata,
        prompt_id,
        prompt,
        held_out,
        prompt_external_id,
        of_prompt,
        tools,
    ) = comparison[:11]
    prompt, texts = in_one_type(_parse(prompt), [_content(chosen), _content(rejected)])
    verdicts = [
        "tie" if vote.preferred is None else "chosen" if vote.preferred == chosen.pk else "rejected"
        for vote in votes
    ]
    return {
        "prompt": prompt,
        "chosen": texts[0],
        "rejected": texts[1],
        "label": row.label,
        "margin": row.margin,
        "weight": row.weight,
        "held_out": held_out,
        "external_id": external_id,
        "metadata": _sorted(metadata),
        "comparison": key,
        "kind": kind,
        "batch": batch,
        "prompt_id": prompt_id,
        "prompt_external_id": prompt_external_id,
        "prompt_metadata": _sorted(of_prompt),
        "tools": _sorted(tools) if tools else None,
        "prompt_token_ids": _shared(chosen.prompt_token_ids, rejected.prompt_token_ids),
        "chosen_completion": chosen.pk,
        "chosen_policy": chosen.policy,
        "chosen_token_ids": _parse(chosen.token_ids),
        "chosen_finish_reason": chosen.finish_reason,
        "chosen_seed": chosen.seed,
        "chosen_logprob": chosen.logprob,
        "chosen_sampling": _sorted(chosen.sampling),
        "rejected_completion": rejected.pk,
        "rejected_policy": rejected.policy,
        "rejected_token_ids": _parse(rejected.token_ids),
        "rejected_finish_reason": rejected.finish_reason,
        "rejected_seed": rejected.seed,
        "rejected_logprob": rejected.logprob,
        "rejected_sampling": _sorted(rejected.sampling),
        "judgments": list(row.judgments),
        "annotators": [pseudonym(vote.annotator) for vote in votes],
        "verdicts": verdicts,
        "strengths": [vote.strength for vote in votes],
        "votes_chosen": verdicts.count("chosen"),
        "votes_rejected": verdicts.count("rejected"),
        "votes_tie": verdicts.count("tie"),
        # Whether each annotator saw the chosen completion on the left.
        "chosen_left": [vote.left == chosen.pk if vote.sides_known else None for vote in votes],
        "imported": [bool(vote.import_batch) for vote in votes],
        "snapshot": snapshot,
    }


def _content(completion: _Completion) -> Content:
    return completion.text if completion.messages is None else _parse(completion.messages)


def in_one_type(prompt: Content, completions: list[Content]) -> tuple[Content, list[Content]]:
    """Return a prompt and completions as TRL has them: all text, or all messages, if one of them is more than text."""
    if isinstance(prompt, str) and not all(isinstance(one, str) for one in completions):
        prompt = [{"role": "user", "content": prompt}]
    return prompt, [as_prompted(prompt, one) for one in completions]


def _shared(one: str | None, other: str | None) -> list[int] | None:
    """Return the prompt's ids that both completions were sampled after, or None if they differ or are not known."""
    return (_parse(one) or None) if one == other else None


def _parse(text: str | None) -> Any:
    """Return the value of a column of JSON. A text without escapes stands between its quotes."""
    if text is None:
        return None
    return text[1:-1] if text[0] == '"' and "\\" not in text else json.loads(text)


def _sorted(text: str) -> str:
    """Return an object as JSON text with its keys in order."""
    return text if text == "{}" else _json(json.loads(text))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if value else "{}"


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
            **({} if row["sides_known"] else dict.fromkeys(("left_policy", "right_policy"))),
            "left": row["left_id"] if row["sides_known"] else None,
            "right": row["right_id"] if row["sides_known"] else None,
            "imported": bool(row["import_batch"]),
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
        yield json_line(row)


def json_line(row: Any) -> bytes:
    """Return a value as a line of JSON. The library writes what orjson refuses, such as half a surrogate pair."""
    try:
        return orjson.dumps(row) + b"\n"  # a copy: orjson's own holds room for ten times the text
    except TypeError:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass") + b"\n"


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
