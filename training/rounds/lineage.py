"""Lineage both ways: from a policy back to the judgments that shaped it, and from a judgment on to the policies."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Count, QuerySet

from annotate.models import Comparison, Judgment, Policy, SnapshotPair, SnapshotRating
from training.models import Round


@dataclass(frozen=True)
class Ancestor:
    """One step back: a policy, and the round that made it (none for a base model)."""

    policy: Policy
    round: Round | None


def trace_back(policy: Policy) -> list[Ancestor]:
    """Return the policy itself, then what it came from, back to the base model."""
    rounds = Round.objects.filter(project=policy.project_id, result_policy__isnull=False)
    made_by = {round_.result_policy_id: round_ for round_ in rounds.select_related("snapshot", "project")}
    return [Ancestor(one, made_by.get(one.pk)) for one in (policy, *find_ancestors(policy))]


def find_ancestors(policy: Policy) -> list[Policy]:
    """Return the policies that a policy came from, newest first: its parent and its round's reference, and theirs."""
    sources, found, waiting = _sources(policy.project_id), set[int](), [policy.pk]
    while waiting:
        more = sources.get(waiting.pop(), set()) - found
        found |= more
        waiting += more
    known = Policy.objects.filter(pk__in=found).select_related("brought_by")
    return list(known.order_by("-pk"))


def find_parents(policy: Policy) -> list[Policy]:
    """Return the policies that a policy was trained from: its parent, its parent's parent and so on."""
    known = Policy.objects.filter(project=policy.project_id).select_related("brought_by")
    policies = {other.pk: other for other in known}
    found = []
    while policy.parent_id is not None:
        policy = policies[policy.parent_id]
        found.append(policy)
    return found


def find_base(policy: Policy) -> Policy:
    """Return the policy that a lineage began with: the nearest one that no round made, such as the base model."""
    lineage = [policy, *find_parents(policy)]
    made = set(
        Round.objects.filter(result_policy__in=[one.pk for one in lineage]).values_list(
            "result_policy", flat=True
        )
    )
    return next((one for one in lineage if one.pk not in made), lineage[-1])


def find_descendants(policy: Policy) -> list[Policy]:
    """Return every policy that came from this one, oldest first."""
    return _descendants(policy, _children(policy.project_id))


def find_references(project_id: int) -> dict[int, int]:
    """Map the id of each round that was trained against a named policy of its project to that policy's id."""
    by_adapter = dict(
        Policy.objects.filter(project=project_id)
        .exclude(adapter="")
        .order_by("-pk")
        .values_list("adapter", "pk")
    )
    named = Round.objects.filter(project=project_id, trains=True).order_by()
    rows = named.values_list("pk", "settings__config__reference")
    return {
        round_: by_adapter[adapter]
        for round_, adapter in rows
        if isinstance(adapter, str) and adapter in by_adapter
    }


def references_of_policies(project_id: int) -> dict[int, int]:
    """Map the id of each policy that was trained against a named policy, other than its parent, to that policy's id."""
    references = find_references(project_id)
    made = Round.objects.filter(pk__in=references, result_policy__isnull=False)
    rows = made.values_list("pk", "result_policy", "result_policy__parent")
    return {
        policy: references[round_]
        for round_, policy, parent in rows
        if policy is not None and references[round_] != parent
    }


def _sources(project_id: int) -> dict[int, set[int]]:
    """Map the id of each policy of a project to those that it came from: its parent, and its round's reference."""
    parents = Policy.objects.filter(project=project_id).values_list("pk", "parent")
    sources = {policy: {parent} if parent else set[int]() for policy, parent in parents}
    for policy, reference in references_of_policies(project_id).items():
        sources[policy].add(reference)
    return sources


def _children(project_id: int) -> dict[int, list[Policy]]:
    """Map the id of each policy of a project to the policies that came from it."""
    children: dict[int, list[Policy]] = defaultdict(list)
    sources = _sources(project_id)
    for policy in Policy.objects.filter(project=project_id).select_related("parent", "brought_by"):
        for source in sources[policy.pk]:
            children[source].append(policy)
    return children


def _descendants(policy: Policy, children: dict[int, list[Policy]]) -> list[Policy]:
    found: dict[int, Policy] = {}
    generation = [policy]
    while generation:
        following = {child.pk: child for one in generation for child in children.get(one.pk, [])}
        generation = [child for pk, child in following.items() if pk not in found]
        found |= following
    return [found[pk] for pk in sorted(found)]


@dataclass(frozen=True)
class Influence:
    """The influence of judgments on a policy: direct, through a round's snapshot, or by descent.

    `parent` and `reference` are what it came from and was trained against, where the judgments shaped those too.
    """

    policy: Policy
    round: Round | None
    judgments: list[Judgment]  # those that the snapshot took; empty by descent
    parent: Policy | None = None
    reference: Policy | None = None


def find_influences(comparison: Comparison) -> list[Influence]:
    """Return every policy that was shaped by judgments of this comparison, oldest first."""
    return _influences(
        comparison.project_id, comparison.snapshot_pairs.all(), comparison.snapshot_ratings.all()
    )


def find_influences_of(judgment: Judgment) -> list[Influence]:
    """Return every policy that was shaped by this judgment, oldest first."""
    found = _influences(judgment.project_id, judgment.snapshot_pairs.all(), judgment.snapshot_ratings.all())
    return [replace(one, judgments=[judgment] if one.round else []) for one in found]


def _influences(
    project_id: int, pairs: QuerySet[SnapshotPair], ratings: QuerySet[SnapshotRating]
) -> list[Influence]:
    """Return the policies that were shaped by rows of one comparison: in each snapshot its pair, or its ratings."""
    held: dict[int, SnapshotPair | SnapshotRating] = {
        row.snapshot_id: row
        for rows in (pairs, ratings)
        for row in rows.prefetch_related("judgments__annotator")
    }
    rounds = Round.objects.filter(snapshot__in=held, result_policy__isnull=False)
    found: dict[int, Influence] = {}
    for round_ in rounds.select_related("project", "result_policy__parent", "snapshot"):
        if round_.result_policy is not None and round_.snapshot_id is not None:
            judgments = list(held[round_.snapshot_id].judgments.all())
            found[round_.result_policy.pk] = Influence(round_.result_policy, round_, judgments)
    children = _children(project_id)
    for influence in list(found.values()):
        for policy in _descendants(influence.policy, children):
            found.setdefault(policy.pk, Influence(policy, None, []))
    references = references_of_policies(project_id)

    def shaped(policy: int | None) -> Policy | None:
        return found[policy].policy if policy in found else None

    return [
        replace(found[key], parent=shaped(found[key].policy.parent_id), reference=shaped(references.get(key)))
        for key in sorted(found)
    ]


# --- What snapshots hold -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Holdings:
    """The number of pairs and ratings of a snapshot, of the judgments behind them, and of their annotators."""

    pairs: int = 0
    ratings: int = 0
    judgments: int = 0
    annotators: int = 0


def count_holdings(snapshots: Iterable[int]) -> dict[int, Holdings]:
    """Map each snapshot's id to what it holds, in four queries. One without pairs and ratings is left out."""
    wanted = set(snapshots)
    pairs, ratings = (
        dict(
            model._default_manager.filter(snapshot__in=wanted)
            .order_by()
            .values_list("snapshot")
            .annotate(count=Count("pk"))
        )
        for model in (SnapshotPair, SnapshotRating)
    )
    people: dict[int, set[int]] = defaultdict(set)
    judgments: Counter[int] = Counter()
    for links, path in _links():
        held = links.filter(**{f"{path}__snapshot__in": wanted})
        counted = held.values_list(f"{path}__snapshot", "judgment__annotator")
        # The two ratings of a comparison are of the same judgments.
        for snapshot, annotator, count in counted.annotate(count=Count("judgment", distinct=True)):
            people[snapshot].add(annotator)
            judgments[snapshot] += count
    return {
        snapshot: Holdings(
            pairs.get(snapshot, 0), ratings.get(snapshot, 0), judgments[snapshot], len(people[snapshot])
        )
        for snapshot in pairs.keys() | ratings.keys()
    }


def held_judgments(snapshots: Iterable[int]) -> QuerySet[Judgment]:
    """Return the judgments that these snapshots hold, each once, in the order in which they were given."""
    wanted = set(snapshots)
    first, second = (
        links.filter(**{f"{path}__snapshot__in": wanted}).values("judgment") for links, path in _links()
    )
    # A union, as PostgreSQL would look at each judgment for an OR.
    return Judgment.objects.filter(pk__in=first.union(second)).order_by("pk")


def _links() -> tuple[tuple[QuerySet[Any], str], ...]:
    """Return the links from pairs and from ratings to judgments, each with the name of the row that it links."""
    return (
        (SnapshotPair.judgments.through._default_manager.order_by(), "snapshotpair"),
        (SnapshotRating.judgments.through._default_manager.order_by(), "snapshotrating"),
    )
