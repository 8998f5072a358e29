"""OpenAI's summarize-from-feedback: two summaries of a post, or one with ratings."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from annotate.sources.candidates import Answer, Candidate, Opinion
from annotate.sources.errors import RecordError
from annotate.sources.formats import fields
from annotate.sources.formats.format import JUDGED, Format, Record

MIDDLE, STEPS = 5, 3  # of a confidence from 1, surely the first, to 9, surely the second


def _prompt(record: Record) -> str:
    """Return the post as the paper's models saw it, or the article."""
    info = record["info"]
    parts = [
        f"{name}: {value}"
        for name, value in (
            ("SUBREDDIT", f"r/{info['subreddit']}" if isinstance(info.get("subreddit"), str) else None),
            ("TITLE", info.get("title")),
            ("POST", info.get("post")),
        )
        if isinstance(value, str)
    ]
    if isinstance(info.get("article"), str):
        parts = [part for part in parts if part.startswith("TITLE")] + [info["article"]]
    if not parts:
        raise RecordError(_("info holds neither a post nor an article."), "info")
    return "\n\n".join([*parts, "TL;DR:"])


def _answer(summary: Mapping[str, Any]) -> Answer:
    more = fields.rest(summary, "text", "policy") or {}
    return Answer(fields.text(summary, "text"), fields.name_of(summary.get("policy")), more)


def _candidate(record: Record, used: tuple[str, ...], answers: list[Answer], opinion: Opinion) -> Candidate:
    info = record["info"]
    metadata = {**(fields.rest(record, "info", *used) or {})}
    metadata |= (
        {"info": others}
        if (others := fields.rest(info, "id", "post", "title", "subreddit", "article"))
        else {}
    )
    return Candidate(
        prompt=_prompt(record),
        answers=tuple(answers),
        opinions=(opinion,),
        metadata=metadata or None,
        prompt_external_id=fields.name_of(info.get("id")),
    )


# --- Comparisons -------------------------------------------------------------------------------------------------


def _fits_pair(record: Record) -> bool:
    summaries = record.get("summaries")
    is_pair = fields.are_objects(summaries, "text") and fields.is_number(record.get("choice"))
    return is_pair and isinstance(record.get("info"), Mapping)


def _read_pair(record: Record) -> Candidate:
    summaries = fields.objects(record, "summaries")
    choice = fields.number(record["choice"], "choice")
    if choice not in range(len(summaries)):
        raise RecordError(_("choice names no summary."), "choice")
    opinion = fields.best(int(choice), len(summaries))._replace(
        annotator=fields.name_of(record.get("worker")),
        strength=_strength(record),
    )
    return _candidate(
        record, ("summaries", "choice", "worker"), [_answer(item) for item in summaries], opinion
    )


def _strength(record: Record) -> int | None:
    extra = record.get("extra")
    confidence = extra.get("confidence") if isinstance(extra, Mapping) else None
    if not fields.is_number(confidence):
        return None
    away = abs(fields.number(confidence, "confidence") - MIDDLE)
    return min(round(away), STEPS) or None


PAIRS = Format(
    "summarize-from-feedback", noop("summarize-from-feedback (comparisons)"), JUDGED, _fits_pair, _read_pair
)


# --- Ratings -----------------------------------------------------------------------------------------------------


def _fits_axis(record: Record) -> bool:
    summary = record.get("summary")
    return (
        isinstance(record.get("info"), Mapping)
        and isinstance(summary, Mapping)
        and isinstance(summary.get("axes"), Mapping)
    )


def _read_axis(record: Record) -> Candidate:
    """Return a summary with its overall rating, from 1 to 7."""
    summary = record["summary"]
    overall = summary["axes"].get("overall")
    scores = (fields.number(overall, "axes.overall") if overall is not None else None,)
    opinion = Opinion(scores, annotator=fields.name_of(record.get("worker")))
    return _candidate(record, ("summary", "worker"), [_answer(summary)], opinion)


AXIS = Format("summarize-axis", noop("summarize-from-feedback (ratings)"), JUDGED, _fits_axis, _read_axis)
