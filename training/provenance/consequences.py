"""The dependents of what is to be forgotten: rows, and the rounds and policies that it shaped. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q, QuerySet

from annotate.imports import uploads
from annotate.models import (
    Comparison,
    Import,
    Judgment,
    Policy,
    Project,
    Prompt,
    Snapshot,
    SnapshotPair,
    SnapshotRating,
    User,
)
from training.models import Round
from training.rounds import lineage


@dataclass(frozen=True)
class Target:
    """The rows to forget in one project: a person's judgments, or prompts and comparisons with everything on them."""

    project: Project
    what: str  # for the trail, without a name
    person: User | None = None
    prompts: QuerySet[Prompt] = field(default_factory=Prompt.objects.none)
    comparisons: QuerySet[Comparison] = field(default_factory=Comparison.objects.none)
    upload: Import | None = None

    @property
    def judgments(self) -> QuerySet[Judgment]:
        """Return the judgments that are forgotten, history too."""
        judgments = Judgment.objects.filter(project=self.project).order_by()
        parts = [judgments.filter(comparison__in=self.comparisons.values("pk"))]
        if self.person is not None:
            parts.append(judgments.filter(annotator=self.person))
        if self.upload is not None:  # judgments that came onto comparisons which were here already
            parts.append(judgments.filter(import_batch=uploads.batch(self.upload)))
        return Judgment.objects.filter(pk__in=_union(parts))

    @property
    def pairs(self) -> QuerySet[SnapshotPair]:
        """Return the pairs of snapshots that hold what is forgotten."""
        return self._holding(SnapshotPair, "snapshotpair")

    @property
    def ratings(self) -> QuerySet[SnapshotRating]:
        """Return the ratings of snapshots that hold what is forgotten."""
        return self._holding(SnapshotRating, "snapshotrating")

    def _holding(self, model: Any, name: str) -> QuerySet[Any]:
        """Return the rows of snapshots that hold what is forgotten. `name` is that of the row in its links."""
        links = model.judgments.through.objects.order_by()
        rows = model.objects.filter(comparison__in=self.comparisons.values("pk")).order_by()
        held = links.filter(judgment__in=self.judgments.values("pk")).values(name)
        found: QuerySet[Any] = model.objects.filter(
            pk__in=rows.values("pk").union(held), snapshot__project=self.project
        )
        return found


def _union(parts: Sequence[QuerySet[Any]]) -> QuerySet[Any]:
    """Return the keys of the rows of all parts. An OR would look at each row of the table, on PostgreSQL for hours."""
    first, *others = (part.values("pk") for part in parts)
    return first.union(*others) if others else first


@dataclass(frozen=True)
class Consequences:
    """The dependents of a target: counts of rows, and the rounds and policies that it shaped."""

    project: Project
    judgments: int
    comparisons: int
    prompts: int
    pairs: int
    ratings: int
    snapshots: list[Snapshot]
    rounds: list[Round]  # trained on it
    descended: list[Round]  # started from a policy that was, or trained against one
    policies: list[Policy]

    def to_dict(self) -> dict[str, object]:
        """Return the consequences as JSON."""
        return {
            "project": self.project.slug,
            "judgments": self.judgments,
            "comparisons": self.comparisons,
            "prompts": self.prompts,
            "pairs": self.pairs,
            "ratings": self.ratings,
            "snapshots": [snapshot.digest for snapshot in self.snapshots],
            "rounds": [round_.number for round_ in self.rounds],
            "descended_rounds": [round_.number for round_ in self.descended],
            "policies": [policy.name for policy in self.policies],
        }


def person_targets(person: User, project: Project | None) -> list[Target]:
    """Return the targets of a person: in one project, or in each that knows them."""
    if project is not None:
        projects = [project]
    else:
        # A union, as an OR would join all judgments of a project with all of its comparisons.
        known = person.memberships.order_by().values("project")
        known = known.union(
            person.judgments.order_by().values("project"),
            person.flags.order_by().values("comparison__project"),
            person.claims.order_by().values("project"),
        )
        projects = list(Project.objects.filter(pk__in=known).order_by("pk"))
    return [
        Target(one, "an annotator", person, comparisons=one.comparisons.filter(reserved_for=person))
        for one in projects
    ]


def prompt_target(prompt: Prompt) -> Target:
    """Return the target of a prompt, with all that was written for it and said of that."""
    project = prompt.project
    among = project.comparisons.filter(prompt=prompt)
    return Target(project, "a prompt", prompts=project.prompts.filter(pk=prompt.pk), comparisons=among)


def import_target(upload: Import) -> Target:
    """Return the target of an import: the prompts and comparisons that it brought, and all that came of them."""
    project, batch = upload.project, uploads.batch(upload)
    brought = Q(prompt__batch=batch) | Q(batch=batch) | Q(repeat_of__batch=batch)
    return Target(
        project,
        "an import",
        prompts=project.prompts.filter(batch=batch),
        comparisons=project.comparisons.filter(brought),
        upload=upload,
    )


def find_consequences(target: Target) -> Consequences:
    """Return what depends on a target. Nothing is changed."""
    pairs, ratings = target.pairs, target.ratings
    holding = pairs.order_by().values("snapshot").union(ratings.order_by().values("snapshot"))
    snapshots = list(Snapshot.objects.filter(pk__in=holding).order_by("pk"))
    trained = target.project.rounds.filter(trains=True, snapshot__isnull=False).select_related(
        "snapshot", "retrains"
    )
    shaped = {snapshot.pk for snapshot in snapshots}
    rounds = [
        round_
        for round_ in trained.select_related("result_policy", "project").order_by("number")
        if round_.snapshot_id in shaped or _could_have_counted(target, round_)
    ]
    made = [round_.result_policy for round_ in rounds if round_.result_policy is not None]
    policies = {policy.pk: policy for one in made for policy in (one, *lineage.find_descendants(one))}
    references = lineage.find_references(target.project.pk)
    against = [round_ for round_, policy in references.items() if policy in policies]
    came = Q(start_policy__in=policies) | Q(pk__in=against)
    descended = target.project.rounds.filter(came, trains=True).order_by("number")
    numbers = {round_.number for round_ in rounds}
    return Consequences(
        target.project,
        target.judgments.count(),
        target.comparisons.count(),
        target.prompts.count(),
        pairs.count(),
        ratings.count(),
        snapshots,
        rounds,
        [one for one in descended.select_related("project") if one.number not in numbers],
        [policies[pk] for pk in sorted(policies)],
    )


def _could_have_counted(target: Target, round_: Round) -> bool:
    """Return whether a verdict stood when the round began that can have kept a comparison out of its pairs."""
    stood = target.judgments.filter(
        round_.moment.was_there(),
        pk__in=Judgment.objects.standing_at(round_.moment).opinions().values("pk"),
    )
    settings = round_.chosen("pairs")
    if not settings.get("include_gold") and settings.get("votes", "equal") == "equal":
        stood = stood.exclude(comparison__kind=Comparison.Kind.GOLD)
    return stood.exclude(comparison__kind=Comparison.Kind.REPEAT).exists()
