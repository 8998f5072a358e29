"""Records of an import written to the database: what is new, and if asked, what differs from what is there.

Callers work through a file in steps, of which each is a transaction: some records are in memory at a time.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from zlib import crc32

from django.db import transaction
from django.utils import timezone

from annotate.errors import RefusalError
from annotate.imports.matching import Matcher, one_of, stored_key
from annotate.imports.reader import WHOLE_FILE, Portion, Reader, RowError
from annotate.imports.records import BATCH, ImportRefusedError, Item, Sources
from annotate.imports.states import CriterionSaid, OpinionState, PairState, PromptState
from annotate.judgments.imported import ImportedJudgment, change_needed, record_imported
from annotate.models import Claim, Comparison, Completion, Judgment, Policy, Project, Prompt, prompt_columns
from annotate.models.bulk.storing import count_new_tables, has_claims_first, reserve_keys, store_rows
from annotate.people import external
from annotate.sources.candidates import order_completions
from annotate.text.chats import as_completion
from primitives.chunks import chunks

ROWS_AT_A_TIME = 1_000
ITEMS_AT_A_TIME = 2_000  # that rows become, in one step: a row of a ranking becomes thousands
BYTES_AT_A_TIME = 4 * 1024 * 1024  # of the file, in one step: what bounds the memory it takes
SECONDS_AT_A_TIME = 1.5
REMARKS_KEPT = 20
NEWS = {"prompts", "pairs", "gold", "judged", "judgments"}  # counts of what was not there before

Written = dict[tuple[int, int, str], int]  # (prompt, policy, key) -> completion
News = list[tuple[tuple[int, Item], Container[str]]]  # (line, item) and the names of what it brought


@dataclass
class Outcome:
    """The result of placing records.

    `counts`: new `prompts`, `pairs`, `judged` pairs and `gold`, and the `judgments` of annotators from elsewhere;
    `duplicates`, all that they say was there already; `different`, known but not as they say, and left as it was;
    `updated`; `shared_ids`, whose id names something else too. `remarks` holds (line, sentence) of the first ones that
    are not plain news.
    """

    counts: Counter[str] = field(default_factory=Counter)
    remarks: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: "Outcome", remarks: int = REMARKS_KEPT) -> None:
        self.counts += other.counts
        self.remarks = [*self.remarks, *other.remarks][:remarks]

    @property
    def changes_something(self) -> bool:
        return bool(self.counts.keys() & {*NEWS, "updated"})


def details(*, update: bool) -> dict[str, Any]:
    """Return what the trail says of an import beside its file."""
    return {"updates": "what differs"} if update else {}


def portion(rows: Reader, most: int, size: float = math.inf) -> Portion:
    """Return the next rows, as many as one step may check or write. Their items, bytes and time bound them too."""
    size = min(size, BYTES_AT_A_TIME)
    return Portion(rows, rows=most, size=size, seconds=SECONDS_AT_A_TIME, items=ITEMS_AT_A_TIME)


class Memory(Protocol):
    """The records that `write` would have written of a file so far."""

    def find(self, items: Iterable[Item]) -> list[Item]: ...

    def add(self, records: News) -> None: ...


def compare(project: Project, items: Iterable[tuple[int, Item]], memory: Memory | None = None) -> Outcome:
    """Return what `write` would do with some (line, item), without doing it.

    An item meets what earlier calls with the same memory would have written. Without one, of more than ITEMS_AT_A_TIME
    a later one does not meet the earlier ones.
    """
    outcome = Outcome()
    for rows in chunks(items, ITEMS_AT_A_TIME):
        new = [item for _line, item in rows]
        earlier = memory.find(new) if memory else []
        matcher = Matcher(project)
        matcher.load([*earlier, *new])
        for item in earlier:
            matcher.place(item)
        written: News = []
        outcome.add(_place(matcher, rows, REMARKS_KEPT, written))
        if memory:
            memory.add(written)
    return outcome


def write(
    project: Project,
    items: Iterable[tuple[int, Item]],
    batch: str = BATCH,
    *,
    update: bool = False,
    remarks: int = REMARKS_KEPT,
    before_commit: Callable[[], None] = lambda: None,
) -> Outcome:
    """Write some (line, item) in one transaction. `batch` names what made the rows; `update` known ones that differ.

    `before_commit` is called before the database commits, which takes it as long as the writing. Raises
    ImportRefusedError, with nothing written.
    """
    outcome = Outcome()
    with transaction.atomic():
        # Of two imports into one project, as of a request sent again, the second sees what the first wrote.
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        for rows in chunks(items, ITEMS_AT_A_TIME):
            _check_sources(project, rows)
            matcher = Matcher(project, update=update)
            matcher.load([item for _line, item in rows])
            outcome.add(_place(matcher, rows, remarks), remarks)
            _write_placed(matcher, batch)
        count_new_tables(Prompt, Completion, Comparison, Claim, Judgment)
        before_commit()
    return outcome


def _write_placed(matcher: Matcher, batch: str) -> None:
    """Store what is new or changed in a matcher's states."""
    project = matcher.project
    pairs = [pair for alike in matcher.pairs.values() for pair in alike]
    new = [pair for pair in pairs if pair.pk is None]
    _write_prompts(project, list(matcher.prompts.values()), batch)
    _write_completions(project, new)
    for pair, pk in zip(new, reserve_keys(Comparison, len(new)), strict=True):
        pair.pk, pair.is_new = pk, True
    judged = [pair for pair in pairs if pair.opinions]
    if has_claims_first():
        _write_opinions(matcher, judged, batch)
        _write_pairs(project, new, batch, are_counted=True)
    else:
        _write_pairs(project, new, batch, are_counted=False)
        _write_opinions(matcher, judged, batch)
    _write_changes(matcher.prompts.values(), pairs)


def _place(
    matcher: Matcher,
    rows: Sequence[tuple[int, Item]],
    remarks: int,
    written: News | None = None,
) -> Outcome:
    """Place records, and add to `written` those that say something new."""
    outcome = Outcome()
    for line, item in rows:
        placement = matcher.place(item)
        if written is not None and placement.counts.keys() & NEWS:
            written.append(((line, item), placement.counts))
        for name, count in placement.counts.items():
            outcome.counts[name] += count
        if placement.remarks and len(outcome.remarks) < remarks:
            outcome.remarks.append((line, " ".join(placement.remarks)))
    return outcome


def _check_sources(project: Project, rows: Sequence[tuple[int, Item]]) -> None:
    sources = Sources(project)
    for line, item in rows:
        try:
            sources.add(item)
        except RowError as error:
            raise ImportRefusedError([(line, str(error))], 1) from error


# --- New rows ----------------------------------------------------------------------------------------------------


def _write_prompts(project: Project, states: list[PromptState], batch: str) -> None:
    new = {state.digest: state for state in states if state.pk is None}
    now = timezone.now()
    rows = [
        {
            **prompt_columns(project, state.item.prompt, state.item.tools, state.digest),
            "external_id": state.external_id,
            "metadata": state.metadata,
            "withdrawn_at": now if state.is_withdrawn else None,
        }
        for state in new.values()
        if state.item
    ]
    shared = {"project_id": project.pk, "batch": batch, "created_at": now}
    for state, pk in zip(new.values(), store_rows(Prompt, rows, shared=shared), strict=True):
        state.pk, state.is_new = pk, True
        state.changes.clear()


def _write_pairs(project: Project, pairs: list[PairState], batch: str, *, are_counted: bool) -> None:
    """Store new comparisons. `are_counted` says that their claims are stored already."""
    now = timezone.now()
    rows = []
    for pair in pairs:
        both = pair.completions
        order = _in_order(pair)
        first, second = (both[key] for key in order)
        judged = sum(one.takes_place for one in pair.opinions.values())
        rows.append(
            {
                "prompt_id": pair.prompt.pk,
                "first_id": first,
                "second_id": second,
                "kind": (Comparison.Kind.GOLD if pair.gold_key else Comparison.Kind.STANDARD).value,
                "gold_preferred_id": both[pair.gold_key] if pair.gold_key else None,
                "external_id": pair.external_id,
                "metadata": order_completions(pair.metadata, list(pair.policies), order),
                "withdrawn_at": now if pair.is_withdrawn else None,
                # No one else is asked about what was judged elsewhere, unless an admin asks for more.
                "needed": judged or project.judgments_needed,
                "judged": judged if are_counted else 0,
                "skipped": len(pair.opinions) - judged if are_counted else 0,
            }
        )
    shared = {"project_id": project.pk, "batch": batch, "created_at": now}
    store_rows(Comparison, rows, [pair.pk or 0 for pair in pairs], shared)


def _in_order(pair: PairState) -> list[str]:
    """Return the keys of a pair as its comparison has them.

    Files that do not know sides often name the better completion first: then a hash decides, as chance agreement
    is computed from how often each place was preferred.
    """
    keys = list(pair.policies)
    if not pair.opinions or any(one.said.left for one in pair.opinions.values()):
        return keys
    return sorted(keys, key=lambda key: crc32(key.encode("utf-8", "surrogatepass")))


def _write_policies(project: Project, names: set[str]) -> dict[str, int]:
    """Return these external policies by name, creating those that are missing."""
    known = dict(Policy.objects.filter(project=project, name__in=names).values_list("name", "pk"))
    new = Policy.objects.bulk_create(
        Policy(project=project, name=name, kind=Policy.Kind.EXTERNAL) for name in sorted(names - known.keys())
    )
    return known | {policy.name: policy.pk for policy in new}


def _write_completions(project: Project, pairs: list[PairState]) -> None:
    """Store what new comparisons are made of, as far as it is not there, and note its ids."""
    policies = _write_policies(project, {name for pair in pairs for name in pair.policies.values()})
    wanted = {
        (pair.prompt.pk or 0, policies[name], key): pair.contents[key]
        for pair in pairs
        for key, name in pair.policies.items()
    }
    written = _known_completions(policies, [pair for pair in pairs if not pair.prompt.is_new])
    missing = [key for key in wanted if key not in written]
    # The order of ids must not tell who wrote what, or which side of gold is right.
    missing.sort(key=lambda _key: random.random())
    rows = [
        {
            "prompt_id": prompt,
            "policy_id": policy,
            "text": as_completion(content),
            "messages": None if isinstance(content, str) else content,
        }
        for (prompt, policy, _key), content in ((key, wanted[key]) for key in missing)
    ]
    written |= dict(
        zip(missing, store_rows(Completion, rows, shared={"created_at": timezone.now()}), strict=True)
    )
    for pair in pairs:
        prompt = pair.prompt.pk or 0
        pair.completions = {key: written[prompt, policies[name], key] for key, name in pair.policies.items()}


def _known_completions(policies: Mapping[str, int], pairs: list[PairState]) -> Written:
    """Return the completions that are stored of these pairs. New prompts have none."""
    if not pairs:
        return {}
    known = Completion.objects.filter(
        one_of({key for pair in pairs for key in pair.policies}),
        prompt__in={pair.prompt.pk for pair in pairs},
        policy__in=set(policies.values()),
    )
    return {
        (row["prompt_id"], row["policy_id"], stored_key(row)): row["pk"]
        for row in known.values("pk", "prompt_id", "policy_id", "text", "messages")
    }


# --- Known rows --------------------------------------------------------------------------------------------------


def _write_changes(prompts: Iterable[PromptState], pairs: Iterable[PairState]) -> None:
    for prompt in prompts:
        if prompt.changes and prompt.pk:
            Prompt.objects.filter(pk=prompt.pk).update(**_columns(prompt.changes))
    for pk, pair in sorted((pair.pk, pair) for pair in pairs if pair.changes and pair.pk):
        columns = _columns(pair.changes)
        if "gold_key" in columns:
            gold = columns.pop("gold_key")
            columns["kind"] = Comparison.Kind.GOLD if gold else Comparison.Kind.STANDARD
            columns["gold_preferred"] = pair.completions[gold] if gold else None
        Comparison.objects.filter(pk=pk).update(**columns)
        if "metadata" in columns:
            Comparison.objects.filter(repeat_of=pk).update(metadata=columns["metadata"])


def _write_opinions(matcher: Matcher, pairs: list[PairState], batch: str) -> None:
    """Record what annotators from elsewhere said, and what they said otherwise before."""
    project = matcher.project
    said = [
        (pair, name, opinion) for pair in pairs for name, opinion in pair.opinions.items() if opinion.changes
    ]
    if not said:
        return
    try:
        annotators = external.find_or_make(project, {name for _pair, name, _opinion in said})
    except RefusalError as error:
        raise ImportRefusedError([(WHOLE_FILE, error.message)], 1) from error
    more: Counter[int] = Counter()
    for pair, _name, opinion in said:
        if not pair.is_new:
            more[pair.pk or 0] += opinion.takes_place - opinion.has_place
    matcher.reasons.store(key for _pair, _name, one in said for key in one.said.reasons or ())
    matcher.criteria.store(key for _pair, _name, one in said for key in one.said.criteria or ())
    given = [_judgment(pair, annotators[name], opinion) for pair, name, opinion in said]
    change_needed({pk: count for pk, count in more.items() if count})
    record_imported(project, given, batch)


def _judgment(pair: PairState, annotator: int, opinion: OpinionState) -> ImportedJudgment:
    said = opinion.said
    on_left = said.left or opinion.left
    left, right = (
        pair.completions[on_left],
        next(pk for key, pk in pair.completions.items() if key != on_left),
    )
    return ImportedJudgment(
        comparison=pair.pk or 0,
        annotator=annotator,
        verdict=said.verdict,
        left=left,
        right=right,
        preferred=pair.completions[said.preferred] if said.preferred else None,
        strength=said.strength,
        sides_known=bool(said.left),
        rationale=said.rationale,
        seconds=said.seconds,
        at=said.at,
        claim=opinion.claim,
        replaces=opinion.judgment,
        first_at=opinion.first_at,
        too_fast=bool(said.too_fast),
        late=bool(said.late),
        reasons=said.reasons or (),
        criteria={key: _criterion(pair, one) for key, one in (said.criteria or {}).items()},
    )


def _criterion(pair: PairState, said: CriterionSaid) -> dict[str, Any]:
    """Return what was said by a criterion as a judgment holds it."""
    columns: dict[str, Any] = {"verdict": said.verdict}
    if said.preferred:
        columns |= {"preferred_id": pair.completions[said.preferred], "strength": said.strength}
    return columns


def _columns(changes: Mapping[str, Any]) -> dict[str, Any]:
    columns = dict(changes)
    if "is_withdrawn" in columns:
        columns["withdrawn_at"] = timezone.now() if columns.pop("is_withdrawn") else None
    return columns
