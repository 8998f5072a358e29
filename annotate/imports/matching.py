"""Which stored rows the records of an import mean, and in what they differ.

A prompt is known by its text. A pair is known by its id, or by its prompt, its two completions and who wrote them;
where a record or a stored pair names no policies, the texts decide. Records are placed one after another on states in
memory, which `writing.py` then stores: a later record of a file meets what an earlier one said.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Q
from django.utils.translation import gettext as _

from annotate.imports.records import BATCH, NO_GOLD, SIDES, Item, PairOpinion
from annotate.models import Claim, Comparison, Completion, Judgment, Policy, Project, Prompt
from annotate.text.chats import Content, content_key
from primitives.text import printable

KEYS_SAID = 3  # of metadata, in one remark
FOUND = Comparison.Kind.STANDARD, Comparison.Kind.GOLD  # the kinds of comparisons that an import makes
MISSING = object()


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


class Said(NamedTuple):
    """A verdict of an annotator from elsewhere, with the key of the better completion. None is not known."""

    verdict: str
    preferred: str = ""
    strength: int | None = None
    rationale: str = ""
    seconds: float | None = None
    at: datetime | None = None


@dataclass(eq=False)
class OpinionState:
    """A verdict of an annotator from elsewhere as it is stored, or will be. `changes` is empty where nothing is new.

    `claim` and `judgment` are the rows of the one that they gave before, which may have been taken back.
    """

    said: Said
    left: str  # the key of the completion on the left
    sides_known: bool = False
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

    `opinions` are by the annotator's name.
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


@dataclass
class Placement:
    """The result of placing one record: counts by what was new, and remarks in words."""

    counts: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)


class Matcher:
    """Places records. With `update`, a known row takes over what its record says; without, it stays as it is."""

    def __init__(self, project: Project, *, update: bool = False) -> None:
        self.project, self.update = project, update
        self.prompts: dict[str, PromptState] = {}
        self.pairs: dict[tuple[str, frozenset[str]], list[PairState]] = defaultdict(list)
        self.prompt_ids: dict[str, set[str]] = defaultdict(set)  # external id -> digests
        self.pair_ids: dict[str, set[int | PairState]] = defaultdict(
            set
        )  # external id -> ids, states of new ones

    def load(self, items: Sequence[Item]) -> None:
        """Read what is stored of these records. An update locks the comparisons until its transaction ends."""
        self._load_prompts(items)
        self._load_pairs(items)
        if any(item.opinions for item in items):
            self._load_opinions()
        self._load_ids(items)

    def place(self, item: Item) -> Placement:
        """Find what the record means. What is new, or with `update` different, is noted in the states."""
        placement = Placement()
        prompt, differences = self._place_prompt(item, placement)
        if item.completions is not None:
            pair, of_pair = self._place_pair(item, prompt, placement)
            differences = [*of_pair, *self._place_opinions(item, pair, placement), *differences]
            self._note_shared_id(item, pair, placement)
        self._note_shared_prompt_id(item, prompt, placement)
        self._settle(differences, placement)
        if not placement.counts.keys() - {"shared_ids"}:
            placement.counts["duplicates"] += 1
        return placement

    # --- Reading -------------------------------------------------------------------------------------------------

    def _load_prompts(self, items: Sequence[Item]) -> None:
        wanted = {item.digest for item in items} - self.prompts.keys()
        rows = Prompt.objects.filter(project=self.project, digest__in=wanted)
        for row in rows.values("pk", "digest", "external_id", "metadata", "withdrawn_at"):
            self.prompts[row["digest"]] = PromptState(
                digest=row["digest"],
                external_id=row["external_id"],
                metadata=row["metadata"],
                is_withdrawn=row["withdrawn_at"] is not None,
                pk=row["pk"],
            )

    def _load_pairs(self, items: Sequence[Item]) -> None:
        keys = {_key(item) for item in items if item.completions} - self.pairs.keys()
        known = [self.prompts[digest] for digest, _texts in keys if digest in self.prompts]
        prompts = {prompt.pk: prompt for prompt in known if prompt.pk}
        written = {
            row["pk"]: row
            for row in Completion.objects.filter(
                prompt__in=prompts.keys(),
                policy__kind=Policy.Kind.EXTERNAL,
            )
            .filter(one_of({key for _digest, both in keys for key in both}))
            .values("pk", "text", "messages", "policy__name")
        }
        for row in written.values():
            row["key"] = stored_key(row)
        rows = Comparison.objects.filter(kind__in=FOUND, first__in=written, second__in=written).order_by("pk")
        if self.update:
            rows = rows.select_for_update(of=("self",), no_key=True)
        for row in rows:
            both = [written[row.first_id], written[row.second_id]]
            prompt = prompts[row.prompt_id]
            gold = row.gold_preferred_id
            state = PairState(
                prompt=prompt,
                policies={one["key"]: one["policy__name"] for one in both},
                external_id=row.external_id,
                metadata=row.metadata,
                gold_key=written[gold]["key"] if gold else "",
                is_withdrawn=row.withdrawn_at is not None,
                is_touched=bool(row.judged or row.claimed or row.skipped),
                completions={one["key"]: one["pk"] for one in both},
                pk=row.pk,
            )
            key = prompt.digest, frozenset(state.policies)
            if key in keys:
                self.pairs[key].append(state)

    def _load_opinions(self) -> None:
        """Read what annotators from elsewhere said of the pairs that are stored, the latest of each."""
        stored = {pair.pk: pair for alike in self.pairs.values() for pair in alike if pair.pk}
        theirs = {"comparison__in": stored.keys(), "annotator__imported_into": self.project}
        claims = {
            (row["comparison"], row["annotator"]): row["pk"]
            for row in Claim.objects.filter(**theirs).values("pk", "comparison", "annotator")
        }
        rows = Judgment.objects.filter(replaced_by=None, **theirs).select_related("annotator")
        for row in rows:
            pair = stored[row.comparison_id]
            keys = {pk: key for key, pk in pair.completions.items()}
            said = Said(
                row.verdict,
                keys[row.preferred_id] if row.preferred_id else "",
                row.strength,
                row.rationale,
                row.seconds,
                row.created_at,
            )
            state = OpinionState(
                said,
                keys[row.left_id],
                row.sides_known,
                claim=claims[row.comparison_id, row.annotator_id],
                judgment=row.pk,
                first_at=row.first_at,
            )
            state.is_current = row.superseded_at is None
            # One that was taken back with its comparison left it needing as many as before.
            state.has_place = state.takes_place and (state.is_current or pair.is_withdrawn)
            pair.opinions[row.annotator.external_name] = state

    def _load_ids(self, items: Sequence[Item]) -> None:
        wanted = {item.external_id for item in items} - {""}
        pairs = Comparison.objects.filter(project=self.project, external_id__in=wanted)
        for external_id, pk in pairs.values_list("external_id", "pk"):
            self.pair_ids[external_id].add(pk)
        wanted = {item.prompt_external_id for item in items} - {""}
        prompts = Prompt.objects.filter(project=self.project, external_id__in=wanted)
        for external_id, digest in prompts.values_list("external_id", "digest"):
            self.prompt_ids[external_id].add(digest)

    # --- Placing -------------------------------------------------------------------------------------------------

    def _place_prompt(self, item: Item, placement: Placement) -> tuple[PromptState, list[Difference]]:
        digest = item.digest
        known = self.prompts.get(digest)
        if known is not None:
            return known, list(_prompt_differences(known, item))
        new = self.prompts[digest] = PromptState(
            digest=digest,
            external_id=item.prompt_external_id,
            metadata=item.prompt_metadata or {},
            is_withdrawn=item.withdrawn and item.completions is None,
            item=item,
        )
        placement.counts["prompts"] += 1
        return new, []

    def _place_pair(
        self, item: Item, prompt: PromptState, placement: Placement
    ) -> tuple[PairState, list[Difference]]:
        known = self._find(item)
        if known is None:
            placement.counts[item.kind] += 1
            return self._add_pair(item, prompt), []
        renamed = list(_policy_differences(known, item))
        placement.remarks += map(str, renamed)
        if renamed and self.update and not known.is_touched:
            placement.counts["updated"] = 1
            return self._correct_policies(item, known), []
        if renamed:
            placement.counts["different"] = 1
        if renamed and known.is_touched:
            placement.remarks.append(_("It is judged, skipped or on a screen: its policies stay."))
        return known, list(_pair_differences(known, item))

    def _place_opinions(self, item: Item, pair: PairState, placement: Placement) -> list[Difference]:
        """Note what annotators said of a pair, and return in what they said otherwise before.

        A pair that was withdrawn takes no judgments, as its withdrawal is a difference of its own.
        """
        differences = []
        if pair.is_withdrawn and not item.withdrawn and not self.update:
            return []
        for opinion in item.opinions:
            said = _said(item, opinion)
            known = pair.opinions.get(opinion.annotator)
            if known is None or not known.is_current:
                new = known or OpinionState(said, item.keys[0], item.sides_known)
                new.said, new.is_current, new.changes = said, True, {"said": said}
                pair.opinions[opinion.annotator] = new
                placement.counts["judgments"] += 1
            else:
                differences += _opinion_differences(known, said, item, opinion.annotator)
        return differences

    def _add_pair(self, item: Item, prompt: PromptState) -> PairState:
        new = PairState(
            prompt=prompt,
            policies=dict(_named(item)),
            contents=dict(zip(item.keys, item.completions or (), strict=True)),
            external_id=item.external_id,
            metadata=item.metadata or {},
            gold_key=item.gold_key,
            is_withdrawn=item.withdrawn,
        )
        self.pairs[_key(item)].append(new)
        return new

    def _correct_policies(self, item: Item, known: PairState) -> PairState:
        """Withdraw a pair that names wrong policies, and put the corrected one in its place.

        Who wrote a completion never changes, and an annotator may be about to get it. None has had it yet.
        """
        if not known.is_withdrawn:
            Difference(known, "is_withdrawn", "withdrawn", False, True).settle()
        first, second = (known.policies[text] if policy == BATCH else policy for text, policy in _named(item))
        corrected = replace(
            item,
            policies=(first, second),
            external_id=item.external_id or known.external_id,
            metadata=known.metadata if item.metadata is None else item.metadata,
            gold=_side(item, known.gold_key) if item.gold is None else item.gold,
        )
        earlier = [one for one in self.pairs[_key(item)] if one.policies == dict(_named(corrected))]
        if not earlier:
            return self._add_pair(corrected, known.prompt)
        for difference in _pair_differences(earlier[0], corrected):
            difference.settle()
        return earlier[0]

    def _find(self, item: Item) -> PairState | None:
        """Return the pair that the record means: by its id first, then by all that makes it up."""
        candidates = sorted(self.pairs.get(_key(item), []), key=lambda one: one.is_withdrawn)
        by_id = [one for one in candidates if item.external_id and one.external_id == item.external_id]
        exact = [one for one in candidates if one.policies == dict(_named(item))]
        unnamed = [
            one
            for one in candidates
            if not (item.external_id and one.external_id)
            and all(
                policy == one.policies[text] or BATCH in (policy, one.policies[text])
                for text, policy in _named(item)
            )
        ]
        live_by_id = [one for one in by_id if not one.is_withdrawn]
        best = [one for one in live_by_id if one in exact]
        return next(iter([*best, *live_by_id, *exact, *by_id, *unnamed]), None)

    def _settle(self, differences: list[Difference], placement: Placement) -> None:
        if not differences:
            return
        placement.remarks += map(str, differences)
        if not self.update:
            placement.counts["different"] = 1
            return
        placement.counts["updated"] = 1
        for difference in differences:
            difference.settle()
            state = difference.state
            if (
                isinstance(state, PairState)
                and difference.column == "is_withdrawn"
                and not state.is_withdrawn
            ):
                prompt = state.prompt
                if prompt.is_withdrawn:  # withdrawn with its import, and back with it
                    Difference(prompt, "is_withdrawn", "withdrawn", True, False).settle()

    def _note_shared_prompt_id(self, item: Item, prompt: PromptState, placement: Placement) -> None:
        if not item.prompt_external_id:
            return
        named = self.prompt_ids[item.prompt_external_id]
        if named - {prompt.digest}:
            sentence = _("The id “%(id)s” names another prompt too.")
            _note_shared(placement, sentence, item.prompt_external_id)
        named.add(prompt.digest)

    def _note_shared_id(self, item: Item, pair: PairState, placement: Placement) -> None:
        if not item.external_id:
            return
        named = self.pair_ids[item.external_id]
        of_same_texts = {one.pk for one in self.pairs[_key(item)]}  # by other policies, or withdrawn
        if named - of_same_texts - {pair}:
            sentence = _("The id “%(id)s” names another comparison too.")
            _note_shared(placement, sentence, item.external_id)
        named.add(pair.pk or pair)


def _note_shared(placement: Placement, sentence: str, external_id: str) -> None:
    placement.counts["shared_ids"] = 1
    placement.remarks.append(sentence % {"id": printable(external_id, 40)})


def _key(item: Item) -> tuple[str, frozenset[str]]:
    return item.digest, frozenset(item.keys)


def _named(item: Item) -> Iterable[tuple[str, str]]:
    """Yield each completion with the policy that is said to have written it."""
    return zip(item.keys, item.policies, strict=True)


def one_of(keys: Iterable[str]) -> Q:
    """Return the condition that a completion may have one of these keys. Messages are told apart by the caller."""
    texts = {key for key in keys if not key.startswith("\0")}
    return Q(text__in=texts, messages__isnull=True) | Q(messages__isnull=False)


def stored_key(row: Mapping[str, Any]) -> str:
    """Return the key of a completion that is stored."""
    return content_key(row["text"] if row["messages"] is None else row["messages"])


def _said(item: Item, opinion: PairOpinion) -> Said:
    preferred = "" if opinion.preferred is None else item.keys[opinion.preferred]
    return Said(opinion.verdict, preferred, opinion.strength, opinion.rationale, opinion.seconds, opinion.at)


def _side(item: Item, text: str) -> str | None:
    return SIDES[item.keys.index(text)] if text else None


# --- Differences -------------------------------------------------------------------------------------------------


def _prompt_differences(known: PromptState, item: Item) -> Iterator[Difference]:
    is_pair = item.completions is not None
    names = ("prompt_external_id", "prompt_metadata") if is_pair else ("id", "metadata")
    yield from _differences(known, names, item.prompt_external_id, item.prompt_metadata)
    if not is_pair and known.is_withdrawn != item.withdrawn:
        yield Difference(known, "is_withdrawn", "withdrawn", known.is_withdrawn, item.withdrawn)


def _policy_differences(known: PairState, item: Item) -> Iterator[Difference]:
    for side, (text, policy) in zip(SIDES, _named(item), strict=True):
        if policy not in (known.policies[text], BATCH):
            yield Difference(known, "policies", f"policy_{side}", known.policies[text], policy)


def _pair_differences(known: PairState, item: Item) -> Iterator[Difference]:
    yield from _differences(known, ("id", "metadata"), item.external_id, item.metadata)
    if item.gold is not None and known.gold_key != item.gold_key:
        here = _side(item, known.gold_key) or NO_GOLD
        yield Difference(known, "gold_key", "gold", here, item.gold, value=item.gold_key)
    if known.is_withdrawn != item.withdrawn:
        yield Difference(known, "is_withdrawn", "withdrawn", known.is_withdrawn, item.withdrawn)


def _opinion_differences(known: OpinionState, said: Said, item: Item, annotator: str) -> Iterator[Difference]:
    """Yield in what an annotator said otherwise before, as one difference. What a row does not say stays."""
    here = known.said
    is_same = (here.verdict, here.preferred) == (said.verdict, said.preferred)
    strength = said.strength or (here.strength if is_same else None)
    there = Said(
        said.verdict,
        said.preferred,
        strength,
        said.rationale or here.rationale,
        here.seconds if said.seconds is None else said.seconds,
        said.at or here.at,
    )
    if there != here:
        name = _("the judgment of “%(name)s”") % {"name": printable(annotator, 40)}
        words = [_in_words(one, item) for one in (here, there)]
        if words[0] == words[1]:
            words = [json.dumps(one[2:], default=str, ensure_ascii=False) for one in (here, there)]
        yield Difference(known, "said", name, *words, value=there)


def _in_words(said: Said, item: Item) -> str:
    """Return a verdict in words, in which the sides of the row are a and b."""
    verdict = str(Judgment.Verdict(said.verdict).label)
    if not said.preferred:
        return verdict
    strength = f" ({Judgment.Strength(said.strength).label})" if said.strength else ""
    return f"{SIDES[item.keys.index(said.preferred)]}{strength}"


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
    if isinstance(value, str):
        return f"“{printable(value, 40)}”"
    return printable(json.dumps(value, ensure_ascii=False), 40)
