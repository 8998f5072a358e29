"""All formats, the most specific first, and the choice among them by the first records of a file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TypeGuard

from annotate.sources.candidates import Candidate
from annotate.sources.errors import RecordError
from annotate.sources.formats import columns, panels, prompts
from annotate.sources.formats.corpora import (
    conversations,
    helpsteer,
    lists,
    multipref,
    ratings,
    safety,
    summaries,
    threads,
    trees,
    vision,
)
from annotate.sources.formats.format import COMPARISONS, GOLD, JUDGED, PROMPTS, Format, Record
from annotate.sources.formats.judges import (
    alpaca,
    arena,
    arena_votes,
    benchmarks,
    opencompass,
    reward_models,
    vertex,
    wildbench,
)
from annotate.sources.formats.tools import (
    argilla,
    crowds,
    kili,
    label_studio,
    open_webui,
    prodigy,
    sagemaker,
    toloka,
)
from annotate.sources.formats.trainers import (
    clouds,
    llama_factory,
    named,
    openai,
    others,
    paddle,
    transcripts,
    trl,
)
from annotate.sources.formats.views import find_printed, peek_cells, plain_view, views
from annotate.sources.formats.whetstone import exported_pairs, judged_comparisons, pairs_to_judge

FORMATS: tuple[Format, ...] = (
    *(exported_pairs.EXPORT, judged_comparisons.JUDGED_COMPARISONS, exported_pairs.KTO),
    pairs_to_judge.PAIRS_TO_JUDGE,
    *(label_studio.TASKS, label_studio.FLAT, label_studio.ITEMS, argilla.RECORDS, argilla.FLAT),
    *(crowds.MTURK, toloka.ASSIGNMENTS, crowds.POTATO, prodigy.CHOICE, prodigy.COMPARISON),
    *(sagemaker.EVALUATIONS, kili.CHATS, open_webui.FEEDBACK),
    *(arena.QUESTIONS, arena.BATTLES, arena.COLUMNS, arena_votes.LOGS, wildbench.PAIRWISE),
    *(alpaca.EVAL, alpaca.FARM, benchmarks.PANDALM, benchmarks.AUTO_J, benchmarks.LLMBAR),
    *(reward_models.LISTS, reward_models.PROMETHEUS, reward_models.JUDGELM, reward_models.GALLERY),
    *(opencompass.JUDGMENTS, vertex.AUTOSXS, vertex.PAIRWISE),
    *(
        ratings.ULTRAFEEDBACK,
        ratings.CODE,
        conversations.PRISM,
        ratings.NECTAR,
        ratings.DISTILABEL,
        others.NEMO_RL,
        ratings.BY_MODEL,
    ),
    *(helpsteer.PREFERENCE, helpsteer.THIRD, helpsteer.RATINGS),
    *(multipref.MULTIPREF, threads.STACK_EXCHANGE, threads.SHP, threads.WEBGPT, threads.SAFE),
    *(safety.BEAVERTAILS, safety.CVALUES, safety.ALIGN_ANYTHING),
    *(summaries.PAIRS, summaries.AXIS, trees.OASST),
    *(lists.GPT4_LLM, lists.MIX, lists.FINE_GRAINED, vision.RLHF_V, vision.VLFEEDBACK),
    *(openai.PREFERENCES, clouds.NOVA, clouds.GEMINI, clouds.VERTEX, paddle.PREFERENCES),
    *(transcripts.HH, transcripts.NEMO, others.AXOLOTL, others.SWIFT, others.TURBO, others.MEDICAL),
    *(
        llama_factory.ALPACA,
        llama_factory.SHAREGPT,
        llama_factory.V1,
        llama_factory.TORCHTUNE,
        llama_factory.KTO,
    ),
    *(trl.STEP_DPO, trl.PREFERENCES, trl.KTO, trl.NAMED, named.NAMED, panels.RATERS, columns.SIDE_BY_SIDE),
    *(prompts.PROMPT, prompts.CHAT, prompts.ALPACA),
)

SHARE = 0.75  # of the first records that must have the format: some lines may be broken
SAMPLE = 50  # candidates that are looked at


def find_format(records: Sequence[object]) -> Format | None:
    """Return the first format that nearly all of these records have, or None.

    Records that say nothing do not count. Its `becomes` is what these records hold: prompts, comparisons, judged pairs
    or gold. Cells that Python printed must not hold more than the format reads of them.
    """
    said = [record for record in records if _says_something(record)]
    found = _find(said)
    if found is None or not (printed := find_printed(said)):
        return found
    inside = _find([peek_cells(record, printed) for record in said])
    is_same = inside is not None and (inside.name, inside.becomes) == (found.name, found.becomes)
    return found if is_same else None


def _says_something(record: object) -> TypeGuard[Record]:
    return isinstance(record, Mapping) and any(value is not None for value in record.values())


def _find(records: Sequence[Record]) -> Format | None:
    looked_at = [list(views(record)) for record in records]
    plain = [plain_view(record) for record in records]
    for format in FORMATS:
        seen = [[one] for one in plain] if format.opens_cells else looked_at
        found = [next(filter(format.recognise, of_one), None) for of_one in seen]
        fitting = [view for view in found if view is not None]
        if not fitting or any(map(format.is_contradicted, chain.from_iterable(looked_at))):
            continue
        if len(fitting) >= SHARE * len(records) and format.fits_together(fitting):
            return replace(format, becomes=_becomes(format, fitting))
    return None


def _becomes(format: Format, records: Sequence[object]) -> str:
    """Return what records hold at the most, or what the format mostly becomes if none can be read."""
    found = list(islice(_readable(format, records), SAMPLE))
    if format.is_fixed or not found:
        return format.becomes
    if any(candidate.opinions for candidate in found):
        return JUDGED
    pairs = [candidate for candidate in found if len(candidate.answers) > 1]
    if pairs and all(candidate.gold in ("a", "b") for candidate in pairs):
        return GOLD
    return COMPARISONS if pairs else PROMPTS


def _readable(format: Format, records: Sequence[object]) -> Iterator[Candidate]:
    for record in records:
        try:
            yield from format.rows(record)
        except RecordError:
            continue
