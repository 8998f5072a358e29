"""The stored rows that the records of an import mean, and the differences between them.

A prompt is known by its text. A pair is known by its id, or by its prompt, its two completions and who wrote them;
where a record or a stored pair names no policies, the texts decide. Records are placed one after another on states in
memory, which `writing.py` then stores: a later record of a file meets what an earlier one said.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from django.db.models import Q
from django.utils.translation import gettext as _

from annotate.imports.records import BATCH, Item, PairOpinion
from annotate.imports.states import (
    CriterionSaid,
    Difference,
    Digest,
    OpinionState,
    PairState,
    PromptState,
    Said,
    named,
    opinion_differences,
    pair_differences,
    policy_differences,
    prompt_differences,
    side_of,
)
from annotate.judgments.aspects import KnownAspects
from annotate.judgments.imported import holds_place
from annotate.models import Claim, Comparison, Completion, Judgment, Policy, Project, Prompt
from annotate.models.aspects import ASPECT_COLUMNS
from annotate.models.bulk.finding import find_keys, find_named
from annotate.sources.candidates import order_completions
from annotate.text.chats import EMPTY, content_key
from primitives.text import printable

FOUND = Comparison.Kind.STANDARD, Comparison.Kind.GOLD  # the kinds of comparisons that an import makes


@dataclass
class Placement:
    """The result of placing one record: counts by what was new, and remarks in words."""

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    remarks: list[str] = field(default_factory=list)


class Matcher:
    """Places records. With `update`, a known row takes over what its record says; without, it stays as it is."""

    def __init__(self, project: Project, *, update: bool = False) -> None:
        self.project, self.update = project, update
        self.prompts: dict[str, PromptState] = {}
        self.pairs: dict[tuple[str, frozenset[str]], list[PairState]] = defaultdict(list)
        self.prompt_ids: dict[str, set[str]] = defaultdict(set)  # external id -> digests
        # External id -> ids, states of new ones.
        self.pair_ids: dict[str, set[int | PairState]] = defaultdict(set)

    def load(self, items: Sequence[Item]) -> None:
        """Read what is stored of these records. An update locks the comparisons until its transaction ends."""
        self._load_prompts(items)
        self._load_pairs(items)
        if any(item.opinions for item in items):
            # As an earlier step left it.
            project = Project.objects.only(*ASPECT_COLUMNS).get(pk=self.project.pk)
            self.reasons, self.criteria = (KnownAspects(project, kind) for kind in ASPECT_COLUMNS)
            self._load_opinions()
        self._load_ids(items)

    def place(self, item: Item) -> Placement:
        """Find what the record means. The states note what is new and, with `update`, what differs."""
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
        rows = Prompt.objects.filter(pk__in=find_keys(Prompt, self.project.pk, "digest", wanted))
        for row in rows.values("pk", "digest", "external_id", "metadata", "withdrawn_at"):
            self.prompts[row["digest"]] = PromptState(
                digest=row["digest"],
                external_id=row["external_id"],
                metadata=row["metadata"],
                is_withdrawn=row["withdrawn_at"] is not None,
                pk=row["pk"],
            )

    def _load_pairs(self, items: Sequence[Item]) -> None:
        keys = {item.pair_key for item in items if item.completions} - self.pairs.keys()
        known = [self.prompts[digest] for digest, _texts in keys if digest in self.prompts]
        prompts = {prompt.pk: prompt for prompt in known if prompt.pk}
        if not prompts:
            return  # and so no completion of them
        completions = Completion.objects.filter(
            one_of({key for _digest, both in keys for key in both}),
            prompt__in=prompts.keys(),
            policy__kind=Policy.Kind.EXTERNAL,
        ).values("pk", "text", "messages", "policy__name")
        written = {row["pk"]: (stored_key(row), row["policy__name"]) for row in completions}
        rows = Comparison.objects.filter(kind__in=FOUND, first__in=written, second__in=written).order_by("pk")
        if self.update:
            rows = rows.select_for_update(of=("self",), no_key=True)
        for row in rows:
            both = (row.first_id, row.second_id)
            prompt = prompts[row.prompt_id]
            gold = row.gold_preferred_id
            state = PairState(
                prompt=prompt,
                policies=dict(written[pk] for pk in both),
                external_id=row.external_id,
                metadata=row.metadata,
                gold_key=written[gold][0] if gold else "",
                is_withdrawn=row.withdrawn_at is not None,
                is_touched=bool(row.judged or row.claimed or row.skipped),
                completions={written[pk][0]: pk for pk in both},
                pk=row.pk,
            )
            key = prompt.digest, frozenset(state.policies)
            if key in keys:
                self.pairs[key].append(state)

    def _load_opinions(self) -> None:
        """Read what annotators from elsewhere said of the pairs that are stored, the latest of each."""
        stored = {pair.pk: pair for alike in self.pairs.values() for pair in alike if pair.pk}
        if not stored:
            return
        theirs = {"comparison__in": stored.keys(), "annotator__imported_into": self.project}
        claims = {
            (row["comparison"], row["annotator"]): row["pk"]
            for row in Claim.objects.filter(**theirs).values("pk", "comparison", "annotator")
        }
        latest = Judgment.objects.filter(replaced_by=None, **theirs)
        rows = latest.annotate(holds_place=holds_place()).select_related("annotator")
        for row in rows:
            claim = claims.get((row.comparison_id, row.annotator_id))
            if claim is None:
                continue  # recorded or forgotten between the two looks, which only a check lets happen
            pair = stored[row.comparison_id]
            keys = {pk: key for key, pk in pair.completions.items()}
            said = Said(
                row.verdict,
                keys[row.preferred_id] if row.preferred_id else "",
                row.strength,
                row.rationale,
                row.seconds,
                row.created_at,
                keys[row.left_id] if row.sides_known else "",
                row.too_fast,
                row.late,
                tuple(row.reasons),
                _stored_criteria(row.criteria, keys),
            )
            state = OpinionState(
                said,
                keys[row.left_id],
                claim=claim,
                judgment=row.pk,
                first_at=row.first_at,
            )
            state.is_current = row.superseded_at is None
            state.has_place = state.takes_place and bool(cast(Any, row).holds_place)
            pair.opinions[row.annotator.external_name] = state

    def _load_ids(self, items: Sequence[Item]) -> None:
        """Read of each id so many rows that one which is not meant is among them, if there is any."""
        loaded = Counter(pair.external_id for alike in self.pairs.values() for pair in alike)
        by_count: dict[int, set[str]] = defaultdict(set)
        for external_id in {item.external_id for item in items} - {""}:
            by_count[loaded[external_id]].add(external_id)
        for count, wanted in by_count.items():
            for external_id, pk in find_named(Comparison, self.project.pk, wanted, "id", count + 1):
                self.pair_ids[external_id].add(pk)
        wanted = {item.prompt_external_id for item in items} - {""}
        for external_id, digest in find_named(Prompt, self.project.pk, wanted, "digest", 2):
            self.prompt_ids[external_id].add(digest)

    # --- Placing -------------------------------------------------------------------------------------------------

    def _place_prompt(self, item: Item, placement: Placement) -> tuple[PromptState, list[Difference]]:
        digest = item.digest
        known = self.prompts.get(digest)
        if known is not None:
            return known, list(prompt_differences(known, item))
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
        renamed = list(policy_differences(known, item))
        placement.remarks += map(str, renamed)
        if renamed and self.update and not known.is_touched:
            placement.counts["updated"] = 1
            return self._correct_policies(item, known), []
        if renamed:
            placement.counts["different"] = 1
        if renamed and known.is_touched:
            placement.remarks.append(_("It is judged, skipped or on a screen: its policies stay."))
        return known, list(pair_differences(known, item))

    def _place_opinions(self, item: Item, pair: PairState, placement: Placement) -> list[Difference]:
        """Note what annotators said of a pair, and return in what they said otherwise before.

        A pair that was withdrawn takes no judgments, as its withdrawal is a difference of its own.
        """
        differences: list[Difference] = []
        if pair.is_withdrawn and not item.withdrawn and not self.update:
            return []
        for opinion in item.opinions:
            said = self._said(item, opinion)
            known = pair.opinions.get(opinion.annotator)
            if known is None or not known.is_current:
                new = known or OpinionState(said, item.keys[0])
                said = said._replace(left=said.left or new.said.left)
                new.said, new.is_current, new.changes = said, True, {"said": said}
                pair.opinions[opinion.annotator] = new
                placement.counts["judgments"] += 1
            else:
                differences += opinion_differences(known, said, item, opinion.annotator)
        return differences

    def _said(self, item: Item, opinion: PairOpinion) -> Said:
        reasons, criteria = opinion.reasons, opinion.criteria
        return Said(
            opinion.verdict,
            _key_at(item, opinion.preferred),
            opinion.strength,
            opinion.rationale,
            opinion.seconds,
            opinion.at,
            _key_at(item, opinion.left),
            opinion.too_fast,
            opinion.late,
            None if reasons is None else tuple(_find(self.reasons, one) for one in reasons),
            None
            if criteria is None
            else {
                _find(self.criteria, one.title, one.key): CriterionSaid(
                    one.verdict, _key_at(item, one.preferred), one.strength
                )
                for one in criteria
            },
        )

    def _add_pair(self, item: Item, prompt: PromptState) -> PairState:
        new = PairState(
            prompt=prompt,
            policies=dict(named(item)),
            contents=dict(zip(item.keys, item.completions or (), strict=True)),
            external_id=item.external_id,
            metadata=item.metadata or {},
            gold_key=item.gold_key,
            is_withdrawn=item.withdrawn,
        )
        self.pairs[item.pair_key].append(new)
        return new

    def _correct_policies(self, item: Item, known: PairState) -> PairState:
        """Withdraw a pair that names wrong policies, and put the corrected one in its place.

        Who wrote a completion never changes, and an annotator may be about to get it. None has had it yet.
        """
        if not known.is_withdrawn:
            Difference(known, "is_withdrawn", "withdrawn", False, True).settle()
        first, second = (known.policies[text] if policy == BATCH else policy for text, policy in named(item))
        corrected = replace(
            item,
            policies=(first, second),
            external_id=item.external_id or known.external_id,
            metadata=order_completions(known.metadata, list(known.policies), item.keys)
            if item.metadata is None
            else item.metadata,
            gold=side_of(item, known.gold_key) if item.gold is None else item.gold,
        )
        earlier = [one for one in self.pairs[item.pair_key] if one.policies == dict(named(corrected))]
        if not earlier:
            return self._add_pair(corrected, known.prompt)
        for difference in pair_differences(earlier[0], corrected):
            difference.settle()
        return earlier[0]

    def _find(self, item: Item) -> PairState | None:
        """Return the pair that the record means: by its id first, then by all that makes it up."""
        known = self.pairs.get(item.pair_key)
        if not known:
            return None
        candidates = sorted(known, key=lambda one: one.is_withdrawn)
        by_id = [one for one in candidates if item.external_id and one.external_id == item.external_id]
        exact = [one for one in candidates if one.policies == dict(named(item))]
        unnamed = [
            one
            for one in candidates
            if not (item.external_id and one.external_id)
            and all(
                policy == one.policies[text] or BATCH in (policy, one.policies[text])
                for text, policy in named(item)
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
        if self._takes_id(prompt, item.prompt_external_id):
            named.add(prompt.digest)

    def _note_shared_id(self, item: Item, pair: PairState, placement: Placement) -> None:
        if not item.external_id:
            return
        named = self.pair_ids[item.external_id]
        of_same_texts = {one.pk for one in self.pairs[item.pair_key]}  # by other policies, or withdrawn
        if named - of_same_texts - {pair}:
            sentence = _("The id “%(id)s” names another comparison too.")
            _note_shared(placement, sentence, item.external_id)
        if self._takes_id(pair, item.external_id):
            named.add(pair.pk or pair)

    def _takes_id(self, state: PromptState | PairState, external_id: str) -> bool:
        """Return whether an id that a record says will be stored: a known row keeps its own unless it is updated."""
        return self.update or state.external_id == external_id


def _note_shared(placement: Placement, sentence: str, external_id: str) -> None:
    placement.counts["shared_ids"] = 1
    placement.remarks.append(sentence % {"id": printable(external_id, 40)})


def one_of(keys: Iterable[str]) -> Q:
    """Return the condition that a completion may have one of these keys. Messages are told apart by the caller."""
    texts = {key.removeprefix(EMPTY) for key in keys if key == EMPTY or not key.startswith("\0")}
    return Q(text__in=texts, messages__isnull=True) | Q(messages__isnull=False)


def stored_key(row: Mapping[str, Any]) -> str:
    """Return the key of a completion that is stored."""
    return content_key(row["text"] if row["messages"] is None else row["messages"])


def _key_at(item: Item, place: int | None) -> str:
    return "" if place is None else item.keys[place]


def _find(aspects: KnownAspects, title: str, key: str = "") -> str:
    """Return the key of a reason or a criterion. That of a digest, which stands for others, is the digest."""
    return title if isinstance(title, Digest) else aspects.find(title, key)


def _stored_criteria(stored: Mapping[str, Any], keys: Mapping[int, str]) -> dict[str, CriterionSaid]:
    """Return what a judgment says by criteria. `keys` are those of its completions, by their ids."""
    return {
        key: CriterionSaid(said["verdict"], keys.get(said.get("preferred_id"), ""), said.get("strength"))
        for key, said in stored.items()
    }
