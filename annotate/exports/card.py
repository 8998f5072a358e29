"""The dataset card: what was asked of whom, what came of it, and what to beware of, from the project itself."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, Min
from django.utils import timezone

from annotate.exports.selection import Selection, Written
from annotate.exports.shapes import Row, completion_as_text
from annotate.models import Judgment
from annotate.pairs.settings import PairSettings
from annotate.pairs.snapshots import canonical
from annotate.reports import agreement
from annotate.reports.alpha import measure_alpha
from annotate.text.chats import Content
from primitives.statistics import Estimate, Share, sum_shares

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
KINDS = {"prefer": "one is better", "tie": "tie", "both_bad": "both bad", "skip": "skipped"}


class _Part:
    """Counts over the rows of one file."""

    def __init__(self) -> None:
        self.pairs, self.judgments, self.imported = 0, 0, 0
        self.annotators: set[str] = set()
        self.policies: Counter[str] = Counter()
        self.longer, self.shorter = 0, 0
        self.left, self.sided = 0, 0
        self.hash = hashlib.sha256()

    def see(self, row: Row) -> None:
        """Count a row, before its texts take another type."""
        self.pairs += 1
        self.judgments += len(row["judgments"])
        self.imported += sum(row["imported"])
        self.annotators.update(row["annotators"])
        self.policies.update((row["chosen_policy"], row["rejected_policy"]))
        chosen, rejected = completion_as_text(row["chosen"]), completion_as_text(row["rejected"])
        self.longer += len(chosen) > len(rejected)
        self.shorter += len(chosen) < len(rejected)
        for verdict, chosen_left in zip(row["verdicts"], row["chosen_left"], strict=True):
            if verdict != "tie" and chosen_left is not None:
                self.sided += 1
                self.left += chosen_left == (verdict == "chosen")
        names = ("comparison", "prompt", "label", "margin", "weight", "held_out", "judgments")
        fields = {name: row[name] for name in names}
        texts = {side: _as_stored(row[side]) for side in ("chosen", "rejected")}
        self.hash.update(canonical(**fields, **texts, tools=json.loads(row["tools"] or "null")))


def _as_stored(content: Content) -> Content:
    """Return a completion as the database has it: its text, or its messages where they hold more."""
    if len(content) == 1 and isinstance(content, list) and content[0].keys() == {"role", "content"}:
        text = content[0]["content"]
        return text if isinstance(text, str) else content
    return content


@dataclass
class Observed:
    """Counts over all rows, gathered while they are written, by file."""

    parts: dict[str, _Part] = field(default_factory=dict)

    def begin(self, name: str) -> Callable[[Row], None]:
        """Return a function that is told each row of a file. A file that is begun twice is counted once."""
        self.parts[name] = _Part()
        return self.parts[name].see

    def total(self, name: str) -> Any:
        return sum(getattr(part, name) for part in self.parts.values())

    @property
    def annotators(self) -> set[str]:
        return set().union(*(part.annotators for part in self.parts.values()))

    @property
    def policies(self) -> Counter[str]:
        return sum((part.policies for part in self.parts.values()), Counter())

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the files' pairs in canonical form, one file after the other."""
        if len(self.parts) == 1:
            return next(iter(self.parts.values())).hash.hexdigest()
        digests = "".join(part.hash.hexdigest() for _name, part in sorted(self.parts.items()))
        return hashlib.sha256(digests.encode()).hexdigest()


def observe(selection: Selection) -> tuple[Observed, Written]:
    """Return what a card needs to know of rows that are not written."""
    observed, written = Observed(), Written()
    see = observed.begin("data/train.parquet")
    for row in selection.raw_rows():
        see(row)
        written.rows["data/train.parquet"] += 1
    return observed, written


def write(selection: Selection, observed: Observed, written: Written) -> str:
    """Return the card as README.md, with the header that the hub reads."""
    sections = [
        _header(selection, written),
        f"# {selection.project.name}\n\n{_summary(selection, observed)}",
        f"## How it was made\n\n{_making(selection, observed)}",
        f"## Figures\n\n{_figures(selection, observed)}",
        f"## Known biases\n\n{_biases(observed)}",
        f"## Columns\n\n{_COLUMNS}",
        f"## Settings\n\n{_settings(selection)}",
        f"## Guidelines given to the annotators\n\n{_quoted(selection.project.guidelines)}",
        f"## Licence\n\n{_licence(selection)}",
        f"## How to cite\n\n{_citation(selection, observed)}",
    ]
    return "\n\n".join(sections) + "\n"


# --- The header --------------------------------------------------------------------------------------------------


def _header(selection: Selection, written: Written) -> str:
    """Return the metadata of a dataset as YAML. Texts are written as JSON, which YAML takes."""
    total = written.total
    size = next((name for most, name in SIZES if total < most), "n>1M")
    licence = selection.project.licence
    lines = [
        "---",
        *([f"license: {json.dumps(licence)}"] if licence else []),
        f"pretty_name: {json.dumps(selection.project.name, ensure_ascii=False)}",
        "task_categories:",
        "- text-generation",
        "tags:",
        *(f"- {tag}" for tag in ("preference", "dpo", "rlhf", "human-feedback", "trl", "whetstone")),
        "size_categories:",
        f"- {size}",
        "configs:",
        *_configs(written.rows),
        "---",
    ]
    return "\n".join(lines)


def _configs(rows: Mapping[str, int]) -> Iterator[str]:
    """Yield what the hub loads: a configuration for each type of prompts, with the files of its splits.

    `datasets` loads no split without rows, and then none of the others. Such a file is not named, unless all are so.
    """
    configs: dict[str, list[tuple[str, str]]] = {}
    for name in [name for name, count in rows.items() if count] or rows:
        *kind, split = name.removeprefix("data/").removesuffix(".parquet").split("-")
        configs.setdefault(kind[0] if kind else "default", []).append((split, name))
    for config, splits in configs.items():
        yield f"- config_name: {config}"
        yield "  data_files:"
        for split, name in splits:
            yield f"  - split: {split}"
            yield f"    path: {name}"


# --- The text ----------------------------------------------------------------------------------------------------


def _summary(selection: Selection, observed: Observed) -> str:
    pairs, judgments = (observed.total(name) for name in ("pairs", "judgments"))
    return (
        f"{_count(pairs, 'preference pair')} from {_count(judgments, 'judgment')} of "
        f"{_count(len(observed.annotators), 'annotator')}, in TRL's preference format (`prompt`, `chosen`, `rejected`) "
        "with the provenance of each row."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _making(selection: Selection, observed: Observed) -> str:
    judgments = _judgments(selection)
    times = judgments.aggregate(first=Min("first_at"), last=Max("created_at"))
    policies = ", ".join(f"`{name}` ({count:,})" for name, count in observed.policies.most_common(20))
    facts = [
        "Annotators compared two completions of a prompt, blind to who wrote them. The sides were drawn at random "
        "for each annotator and comparison, and are recorded. What was imported was judged elsewhere, by its rules.",
        f"Judged from {_day(times['first'])} to {_day(times['last'])}.",
        f"Each comparison asks for {_count(selection.project.judgments_needed, 'judgment')}, made independently.",
        f"Completions by policy: {policies or 'none'}.",
        f"{observed.total('imported'):,} of the judgments were given elsewhere and imported.",
        "Annotators are named by pseudonyms, the same in every export of the project.",
        f"Exported on {_day(timezone.now())} by Whetstone.",
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _figures(selection: Selection, observed: Observed) -> str:
    alpha = measure_alpha(selection.project)
    gold = sum_shares(agreement.gold_accuracy(selection.project).values())
    rows = [
        ("Pairs", f"{observed.total('pairs'):,}"),
        (
            "Agreement of two annotators on a comparison",
            _share(agreement.pairwise_agreement(selection.project).everyone),
        ),
        ("Krippendorff's alpha (nominal)", _coefficient(alpha)),
        ("Accuracy on gold comparisons", _share(gold)),
        *((f"Verdicts: {KINDS[verdict]}", f"{count:,}") for verdict, count in _mix(selection)),
        ("SHA-256 of the pairs in canonical form", f"`{observed.digest}`"),
    ]
    if selection.snapshot is not None:
        rows.append(("Snapshot", f"`{selection.snapshot.digest}`"))
    note = (
        "Agreement and gold are those of the whole project. Intervals are Wilson's, at 95 %. Those of the agreement "
        "and of alpha take each comparison as one observation, however many judged it."
    )
    if selection.snapshot is None:
        note += (
            " Verdicts count all chosen judgments. Those on gold comparisons make no pair, nor do ties and both bad "
            "unless the settings below keep them."
        )
    return "\n".join(
        ["| figure | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows), "", note]
    )


def _coefficient(found: Estimate | None) -> str:
    return "not measured" if found is None else f"{found.value:.3f} ({found.low:.2f} to {found.high:.2f})"


def _biases(observed: Observed) -> str:
    left = Share(observed.total("left"), observed.total("sided"))
    longer = observed.total("longer")
    length = Share(longer, longer + observed.total("shorter"))
    facts = [
        f"Side: the completion on the left was preferred in {_share(left)} of the votes. One half is no bias.",
        f"Length: the chosen completion is the longer one in {_share(length)} of the pairs of different length.",
        "The annotators are those of one project. Their number and their agreement bound what the labels can say.",
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _settings(selection: Selection) -> str:
    """Return what differs from the defaults, as JSON that can be read back."""
    how = _changes(selection.settings, PairSettings())
    which = _changes(selection.filters, type(selection.filters)())
    split = asdict(selection.split) if selection.split else {}
    given = {
        "format": selection.format.name,
        "pairs": how,
        "filters": which,
        "split": split,
        "texts": selection.texts,
    }
    text = json.dumps({name: value for name, value in given.items() if value}, indent=2, default=str)
    return f"What differs from Whetstone's defaults:\n\n```json\n{text}\n```"


def _changes(chosen: Any, usual: Any) -> dict[str, Any]:
    usual_values = asdict(usual)
    given = {
        name: tuple(value) if isinstance(value, list) else value for name, value in asdict(chosen).items()
    }
    return {name: value for name, value in given.items() if value != usual_values[name]}


def _licence(selection: Selection) -> str:
    licence = selection.project.licence
    return (
        f"`{licence}`"
        if licence
        else "No licence is stated. Ask the people of the project before you use the data."
    )


def _citation(selection: Selection, observed: Observed) -> str:
    project, now = selection.project, timezone.now()
    digest = selection.snapshot.digest if selection.snapshot else observed.digest
    title = "".join(letter for letter in project.name if letter not in "{}\\")
    return (
        f"```bibtex\n@misc{{{project.slug}-{now.year},\n  title = {{{title}}},\n  year = {{{now.year}}},\n"
        f"  note = {{Preference pairs, collected with Whetstone. SHA-256 {digest}}}\n}}\n```"
    )


_COLUMNS = """\
`prompt`, `chosen` and `rejected` are what training reads. `label` is the probability that `chosen` is the better one,
`margin` the mean strength of the preference (0 to 3), `weight` how much the pair counts. `judgments`, `annotators`,
`verdicts`, `strengths` and `chosen_left` list, in the same order, what was said by whom, and where the chosen
completion was shown. `metadata`, `prompt_metadata` and `…_sampling` are JSON text."""


# --- Figures -----------------------------------------------------------------------------------------------------


def _judgments(selection: Selection) -> Any:
    if selection.snapshot is not None:
        return Judgment.objects.filter(snapshot_pairs__snapshot=selection.snapshot)
    return Judgment.objects.current().filter(selection.filters.judgments(), project=selection.project)


def _mix(selection: Selection) -> list[tuple[str, int]]:
    counts = _judgments(selection).order_by().values_list("verdict").annotate(count=Count("pk"))
    return sorted(counts, key=lambda one: list(KINDS).index(one[0]))


def _share(share: Share) -> str:
    if share.value is None:
        return "not measured"
    low, high = share.interval
    return f"{100 * share.value:.1f} % ({100 * low:.1f} to {100 * high:.1f} %, {share.total:,} counted)"


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "no day"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines()) or "None were written down."
