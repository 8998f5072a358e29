"""Prompts, pairs and verdicts as they are stored, or will be, and in what a record differs from them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from annotate.imports.records import BATCH, NO_GOLD, SIDES, Item
from annotate.models import Judgment
from annotate.sources.candidates import order_completions
from annotate.text.chats import Content
from primitives.text import printable

KEYS_SAID = 3  # of metadata, in one remark
MISSING = object()


class Digest(str):
    """A text of which a check keeps only the digest. It starts with a blank, which no text of a record does."""

    __slots__ = ()


@dataclass(eq=False)
class PromptState:
    """A prompt as it is stored, or will be. `changes` are the columns to write."""

    digest: str
    external_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    is_withdrawn: bool = False
    pk: int | None = None
    is_new: bool = False
    item: Item | None = None  # what a new one is made of
    changes: dict[str, Any] = field(default_factory=dict)


class CriterionSaid(NamedTuple):
    """The say of an annotator by one criterion, with the key of the better completion."""

    verdict: str
    preferred: str = ""
    strength: int | None = None


class Said(NamedTuple):
    """A verdict of an annotator from elsewhere, with the keys of the better completion and of the one on the left.

    `reasons` and `criteria` are by the keys that the project has for them. None, and an empty `left`, are not known.
    """

    verdict: str
    preferred: str = ""
    strength: int | None = None
    rationale: str = ""
    seconds: float | None = None
    at: datetime | None = None
    left: str = ""
    too_fast: bool | None = None
    late: bool | None = None
    reasons: tuple[str, ...] | None = None
    criteria: Mapping[str, CriterionSaid] | None = None


NOTHING = Said("", too_fast=False, late=False, reasons=(), criteria={})


@dataclass(eq=False)
class OpinionState:
    """A verdict of an annotator from elsewhere as it is stored, or will be. `changes` is empty where nothing is new.

    `claim` and `judgment` are the rows of the one that they gave before, which may have been taken back. `left` is the
    key of the completion that is stored on the left where it is not known which one was.
    """

    said: Said
    left: str
    claim: int | None = None
    judgment: int | None = None
    first_at: datetime | None = None
    is_current: bool = True
    has_place: bool = False  # that its comparison needs one judgment more for it
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def takes_place(self) -> bool:
        """Return whether it is a judgment that its comparison counts. A skip is none."""
        return self.said.verdict != Judgment.Verdict.SKIP


@dataclass(eq=False)
class PairState:
    """A comparison as it is stored, or will be. `policies`, `contents` and `completions` (ids) are by the key.

    `opinions` are by the annotator's name. The metadata has its completions in the order of `policies`: that of the
    comparison where it is stored.
    """

    prompt: PromptState
    policies: Mapping[str, str]
    contents: Mapping[str, Content] = field(default_factory=dict)
    external_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    gold_key: str = ""
    is_withdrawn: bool = False
    is_touched: bool = False
    completions: Mapping[str, int] = field(default_factory=dict)
    opinions: dict[str, OpinionState] = field(default_factory=dict)
    pk: int | None = None
    is_new: bool = False
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """Something that a record says otherwise than what is stored: a column of `state`, called `name` in the file."""

    state: PromptState | PairState | OpinionState
    column: str
    name: str
    here: Any
    there: Any
    value: Any = MISSING  # of the column, if that is not `there`

    def __str__(self) -> str:
        return _("%(name)s is %(here)s here and %(there)s in this row.") % {
            "name": self.name,
            "here": _shown(self.here),
            "there": _shown(self.there),
        }

    def settle(self) -> None:
        """Let the state say what the record says."""
        value = self.there if self.value is MISSING else self.value
        setattr(self.state, self.column, value)
        self.state.changes[self.column] = value


def named(item: Item) -> Iterable[tuple[str, str]]:
    """Yield each completion with the policy that is said to have written it."""
    return zip(item.keys, item.policies, strict=True)


def side_of(item: Item, text: str) -> str | None:
    """Return the side of a completion in the record: a or b, or None for no completion."""
    return SIDES[item.keys.index(text)] if text else None


# --- Differences -------------------------------------------------------------------------------------------------


def prompt_differences(known: PromptState, item: Item) -> Iterator[Difference]:
    """Yield in what a record says otherwise of its prompt."""
    is_pair = item.completions is not None
    names = ("prompt_external_id", "prompt_metadata") if is_pair else ("id", "metadata")
    yield from _differences(known, names, item.prompt_external_id, item.prompt_metadata)
    if not is_pair and known.is_withdrawn != item.withdrawn:
        yield Difference(known, "is_withdrawn", "withdrawn", known.is_withdrawn, item.withdrawn)


def policy_differences(known: PairState, item: Item) -> Iterator[Difference]:
    """Yield in what a record says otherwise of who wrote its completions."""
    for side, (text, policy) in zip(SIDES, named(item), strict=True):
        if policy not in (known.policies[text], BATCH):
            yield Difference(known, "policies", f"policy_{side}", known.policies[text], policy)


def pair_differences(known: PairState, item: Item) -> Iterator[Difference]:
    """Yield in what a record says otherwise of its pair: id, metadata, gold, withdrawn or not."""
    metadata = order_completions(item.metadata, item.keys, list(known.policies))
    yield from _differences(known, ("id", "metadata"), item.external_id, metadata)
    if item.gold is not None and known.gold_key != item.gold_key:
        here = side_of(item, known.gold_key) or NO_GOLD
        yield Difference(known, "gold_key", "gold", here, item.gold, value=item.gold_key)
    if known.is_withdrawn != item.withdrawn:
        yield Difference(known, "is_withdrawn", "withdrawn", known.is_withdrawn, item.withdrawn)


def opinion_differences(known: OpinionState, said: Said, item: Item, annotator: str) -> Iterator[Difference]:
    """Yield in what an annotator said otherwise before, as one difference. What a row does not say stays."""
    here = _completed(known.said, NOTHING)
    is_same = (here.verdict, here.preferred) == (said.verdict, said.preferred)
    strength = said.strength or (here.strength if is_same else None)
    there = Said(
        said.verdict,
        said.preferred,
        strength,
        said.rationale or here.rationale,
        here.seconds if said.seconds is None else said.seconds,
        said.at or here.at,
        said.left or here.left,
        said.too_fast,
        said.late,
        said.reasons,
        said.criteria,
    )
    there = _completed(there, here if is_same else NOTHING)
    if there != here:
        name = _("the judgment of “%(name)s”") % {"name": printable(annotator, 40)}
        before, after = _in_words(here, item), _in_words(there, item)
        if here._replace(left=there.left) == there:
            name = _("the completion that “%(name)s” saw on the left") % {"name": printable(annotator, 40)}
            before, after = (side_of(item, one.left) or "" for one in (here, there))
        elif here._replace(reasons=there.reasons) == there:
            name = _("what “%(name)s” gave as reasons") % {"name": printable(annotator, 40)}
            before, after = (", ".join(map(_key_in_words, one.reasons or ())) for one in (here, there))
        elif here._replace(criteria=there.criteria) == there:
            name = _("what “%(name)s” said by criteria") % {"name": printable(annotator, 40)}
            before, after = (_criteria_in_words(one, item) for one in (here, there))
        elif before == after:
            before, after = (_rest_in_words(one) for one in (here, there))
        yield Difference(known, "said", name, before, after, value=there)


def _in_words(said: Said, item: Item) -> str:
    """Return a verdict in words, in which the sides of the row are a and b."""
    verdict = str(Judgment.Verdict(said.verdict).label)
    if not said.preferred:
        return verdict
    strength = f" ({Judgment.Strength(said.strength).label})" if said.strength else ""
    return f"{SIDES[item.keys.index(said.preferred)]}{strength}"


def _completed(said: Said, before: Said) -> Said:
    """Return a verdict with the marks, reasons and criteria of `before` where it does not say them."""
    return said._replace(
        too_fast=before.too_fast if said.too_fast is None else said.too_fast,
        late=before.late if said.late is None else said.late,
        reasons=before.reasons if said.reasons is None else said.reasons,
        criteria=before.criteria if said.criteria is None else said.criteria,
    )


def _criteria_in_words(said: Said, item: Item) -> str:
    return ", ".join(
        _key_in_words(key)
        if isinstance(key, Digest)
        else f"{key} {side_of(item, one.preferred) or one.verdict} {one.strength or ''}".strip()
        for key, one in (said.criteria or {}).items()
    )


def _key_in_words(key: str) -> str:
    """Return the key of a reason or a criterion. Of those that a digest stands for, a check knows no more."""
    return "…" if isinstance(key, Digest) else key


def _rest_in_words(said: Said) -> str:
    marks = [word for word, is_said in ((_("too fast"), said.too_fast), (_("late"), said.late)) if is_said]
    values = (*marks, said.strength, said.rationale, said.seconds, said.at)  # what is cut is the end
    rest = ["…" if isinstance(value, Digest) else value for value in values]
    return json.dumps(rest, default=str, ensure_ascii=False)


def _differences(
    known: PromptState | PairState,
    names: tuple[str, str],
    external_id: str,
    metadata: Mapping[str, Any] | None,
) -> Iterator[Difference]:
    if external_id and known.external_id != external_id:
        yield Difference(known, "external_id", names[0], known.external_id, external_id)
    if metadata is None:
        return
    if any(isinstance(key, Digest) for key in known.metadata):
        yield Difference(known, "metadata", names[1], "…", "…", value=dict(metadata))
        return
    keys = [
        key for key in {**known.metadata, **metadata} if _json(known.metadata, key) != _json(metadata, key)
    ]
    for key in keys[:KEYS_SAID]:
        here, there = known.metadata.get(key, MISSING), metadata.get(key, MISSING)
        yield Difference(
            known, "metadata", f"{names[1]}.{printable(key, 40)}", here, there, value=dict(metadata)
        )
    if len(keys) > KEYS_SAID:
        name = _("the rest of %(name)s") % {"name": names[1]}
        yield Difference(known, "metadata", name, "…", "…", value=dict(metadata))


def _json(values: Mapping[str, Any], key: str) -> str | None:
    """Return a value as JSON, in which 1 and true are not the same, or None for none."""
    return json.dumps(values[key], sort_keys=True) if key in values else None


def _shown(value: Any) -> str:
    if value is MISSING or value == "":
        return _("missing")
    if isinstance(value, Digest):
        value = "…"
    if isinstance(value, str):
        return f"“{printable(value, 40)}”"
    return printable(json.dumps(value, ensure_ascii=False), 40)
