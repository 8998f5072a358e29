"""The table of formats: what each is called, which rows it takes, and how it writes them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from annotate.exports import tools, trainers, writers
from annotate.exports.shapes import Row
from annotate.pairs.judgment_rows import JUDGMENT_COLUMNS
from annotate.pairs.pair_rows import PAIR_COLUMNS


class Source(StrEnum):
    """The rows that a format is made of."""

    PAIRS = "pairs"
    COMPARISONS = "comparisons"  # judged ones, with everything that was said of them
    JUDGMENTS = "judgments"


@dataclass(frozen=True)
class Format:
    """A format of files. `record` makes the records of a row that is not one itself, `write` the bytes of all records.

    `texts` is the one type of prompts that the format knows, if there is one. `has_columns`: a record may have further
    columns, such as `split`. `has_ties`: a record can say that neither completion is better. `is_folder`: several files
    in a zip.
    """

    name: str
    label: Promise
    source: Source
    extension: str
    write: Callable[[writers.Rows, Sequence[str]], Iterator[bytes]]
    record: Callable[[Row], Iterator[Row]] | None = None
    columns: tuple[str, ...] = ()
    texts: str = ""
    has_columns: bool = False
    has_ties: bool = False
    is_folder: bool = False
    without: tuple[str, ...] = ()  # contents for which it has no place, of those that filters know
    both_bad: bool = False  # rows of comparisons whose completions are both bad, too
    stem: str = ""  # of the file's name, if it is not the format's name

    def filename(self, slug: str) -> str:
        """Return the name of a download."""
        return f"{slug}-{self.stem or self.name.replace('_', '-')}"


KTO_COLUMNS = (
    "prompt", "completion", "label", "both_bad", "policy", "completion_id", "tools", "comparison", "kind", "batch",
    "held_out", "external_id", "metadata", "prompt_id", "prompt_external_id", "prompt_metadata",
)  # fmt: skip
_TABLE: dict[str, Any] = {"columns": PAIR_COLUMNS, "has_columns": True, "has_ties": True}
_PAIRS, _COMPARISONS, _JUDGMENTS = Source.PAIRS, Source.COMPARISONS, Source.JUDGMENTS

FORMATS = {
    one.name: one
    for one in (
        Format(
            "jsonl", _("Pairs for TRL, with provenance (JSON Lines)"), _PAIRS, "jsonl", writers.json_lines,
            stem="pairs", **_TABLE,
        ),
        Format(
            "conversational", _("Pairs for TRL, all as messages (JSON Lines)"), _PAIRS, "jsonl", writers.json_lines,
            texts="messages", **_TABLE,
        ),
        Format("parquet", _("Pairs in typed columns (Parquet)"), _PAIRS, "parquet", writers.parquet, stem="pairs",
               **_TABLE),
        Format("csv", _("Pairs for spreadsheets (CSV)"), _PAIRS, "csv", writers.plain_csv, stem="pairs", **_TABLE),
        Format(
            "datasets", _("Dataset folder with a card (Parquet, for the Hugging Face hub)"), _PAIRS, "parquet",
            writers.parquet, stem="dataset", is_folder=True, **_TABLE,
        ),
        Format("kto", _("Single ratings for KTO (JSON Lines)"), _PAIRS, "jsonl", writers.json_lines, trainers.kto,
               columns=KTO_COLUMNS, has_columns=True, both_bad=True),
        Format("openai", _("OpenAI preference fine-tuning (JSON Lines)"), _PAIRS, "jsonl", writers.json_lines,
               trainers.openai, texts="messages", without=("several_messages", "images", "reasoning")),
        Format("llama_factory", _("LLaMA-Factory, sharegpt with dataset_info.json (zip)"), _PAIRS, "json",
               writers.json_array, trainers.llama_factory, texts="messages", is_folder=True,
               without=("several_messages", "images")),
        Format("ms_swift", _("ms-swift, messages and rejected_messages (JSON Lines)"), _PAIRS, "jsonl",
               writers.json_lines, trainers.ms_swift, texts="messages"),
        Format("nemo_rl", _("NeMo RL, PreferenceDataset (JSON Lines)"), _PAIRS, "jsonl", writers.json_lines,
               trainers.nemo_rl, texts="messages", without=("several_messages", "images")),
        Format("axolotl", _("Axolotl, chat_template.default (JSON Lines)"), _PAIRS, "jsonl", writers.json_lines,
               trainers.axolotl, texts="messages",
               without=("several_messages", "images", "calls", "reasoning", "empty", "blanks")),
        Format("comparisons", _("Comparisons with every judgment (JSON Lines)"), _COMPARISONS, "jsonl",
               writers.json_lines, has_columns=True, has_ties=True),
        Format("argilla", _("Argilla records (JSON)"), _COMPARISONS, "json", writers.json_array, tools.argilla,
               texts="text", has_ties=True),
        Format("label_studio", _("Label Studio tasks with annotations (JSON)"), _COMPARISONS, "json",
               writers.json_array, tools.label_studio, texts="text", has_ties=True),
        Format("judgments", _("Judgments, with their history (JSON Lines)"), _JUDGMENTS, "jsonl", writers.json_lines,
               columns=JUDGMENT_COLUMNS, has_ties=True),
        Format("judgments_csv", _("Judgments, with their history (CSV)"), _JUDGMENTS, "csv", writers.plain_csv,
               columns=JUDGMENT_COLUMNS, stem="judgments", has_ties=True),
        Format("judgments_parquet", _("Judgments, with their history (Parquet)"), _JUDGMENTS, "parquet",
               writers.parquet, columns=JUDGMENT_COLUMNS, stem="judgments", has_ties=True),
    )
}  # fmt: skip
GROUPS = {
    _PAIRS: _("Preference pairs"),
    _COMPARISONS: _("Comparisons"),
    _JUDGMENTS: _("Judgments"),
}


def choices() -> list[tuple[Promise, list[tuple[str, Promise]]]]:
    """Return the formats for a form, by what their rows are."""
    return [
        (title, [(one.name, one.label) for one in FORMATS.values() if one.source == source])
        for source, title in GROUPS.items()
    ]
