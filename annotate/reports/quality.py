"""Quality of the judging, for an admin: each annotator's figures, warnings in plain words, progress by day.

The figures are `agreement`'s. Here they are put together, and held against bars that leave room for chance. A
warning needs enough verdicts, and an interval that does not reach the bar.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db.models import Count, Q
from django.utils.translation import gettext as _

from annotate.models import Comparison, Completion, Judgment, Policy, Project, User
from annotate.reports import agreement
from annotate.reports.agreement import AnnotatorFigures
from annotate.reports.alarms import Alarm, find_alarms
from annotate.reports.alpha import measure_alpha
from annotate.reports.days import Day, days_of
from annotate.reports.recalled import recall, recall_evidence
from annotate.text.model_names import make_name_pattern
from primitives.statistics import Estimate, Share, percent, sum_shares

ENOUGH_GOLD, ENOUGH_REPEATS, ENOUGH_PREFERENCES, ENOUGH_JUDGMENTS = 10, 10, 30, 20
LEFT_FROM_HALF = 0.1  # a share of left verdicts further from one half than this matters
MOST_TOO_FAST, MOST_SKIPPED, LEAST_CONSISTENT = 0.1, 0.3, 0.6
LEAKS_LOOKED_AT = 2_000  # the newest completions
MOST_EXTERNAL, MOST_KAPPAS = 20, 100  # rows on the page: a file can name thousands of annotators


@dataclass(frozen=True)
class Person:
    """An annotator's figures with what the page makes of them."""

    user: User
    figures: AnnotatorFigures
    total: int
    too_fast: Share
    skipped: Share
    warnings: list[str]


@dataclass(frozen=True)
class External:
    """The annotators that files name: how many there are, their judgments, and those that the page lists.

    These are the ones with the most judgments, of all or of those whose name holds what was searched for.
    """

    count: int
    total: int
    found: int
    people: list[Person]


@dataclass(frozen=True)
class Quality:
    """The whole page. `kappas` holds (one, other, comparisons both judged, Cohen's kappa or None)."""

    people: list[Person]
    external: External
    verdicts: list[tuple[str, Share]]
    pairwise: Share
    with_external: Share  # of an annotator of the project and one of a file
    alpha: Estimate | None
    gold: Share
    left: Share
    kappas: list[tuple[User, User, int, float | None]]
    days: list[Day]
    leaks: list[int]
    has_chosen: bool  # comparisons that a probe chose, which count for no agreement
    alarms: list[tuple[User, Alarm]]

    @property
    def alarming(self) -> set[int]:
        """Return the annotators whose verdicts look like chance."""
        return {user.pk for user, _alarm in self.alarms}

    @property
    def total(self) -> int:
        return sum(person.total for person in self.people) + self.external.total

    @property
    def warnings(self) -> list[str]:
        return [warning for person in self.people for warning in person.warnings]


def assess(project: Project, search: str = "") -> Quality:
    """Return everything that the page shows, in a number of queries that does not depend on the project's size.

    `search` narrows the external annotators by their names.
    """
    evidence = recall_evidence(project)
    met = evidence.met
    found = agreement.annotators(project, met=met, reliable=agreement.as_values(evidence.reliability))
    has_chosen, met = any(meeting.by_probe for meeting in met), agreement.on_random_pairs(met)
    agreed, alpha = recall(
        project,
        "agreement and alpha",
        lambda: (agreement.pairwise_agreement(project), measure_alpha(project)),
    )
    users = User.objects.in_bulk([one.annotator for one in found])
    everyone = [_person(project, users[one.annotator], one) for one in found]
    everyone.sort(key=lambda person: -person.total)
    kappas = sorted(agreement.kappas(met), key=lambda row: (_is_external(users, row), -row[2]))
    return Quality(
        people=[person for person in everyone if not person.user.is_imported],
        external=_external([person for person in everyone if person.user.is_imported], search),
        verdicts=_mix(project),
        pairwise=agreed.everyone,
        with_external=agreed.with_external,
        alpha=alpha,
        gold=sum_shares(one.gold for one in found),
        left=sum_shares(one.left for one in found),
        kappas=[
            (users[one], users[other], count, kappa) for one, other, count, kappa in kappas[:MOST_KAPPAS]
        ],
        days=days_of(project),
        leaks=identity_leaks(project),
        has_chosen=has_chosen,
        alarms=[
            (users[alarm.annotator], alarm) for alarm in find_alarms(evidence) if alarm.annotator in users
        ],
    )


def _external(people: list[Person], search: str) -> External:
    wanted = search.casefold()
    found = [person for person in people if wanted in person.user.shown_name.casefold()]
    return External(len(people), sum(person.total for person in people), len(found), found[:MOST_EXTERNAL])


def _is_external(users: Mapping[int, User], row: tuple[int, int, int, float | None]) -> bool:
    return users[row[0]].is_imported or users[row[1]].is_imported


def _person(project: Project, user: User, figures: AnnotatorFigures) -> Person:
    total = sum(figures.verdicts.values())
    too_fast = Share(figures.too_fast, total)
    # A comparison outside an annotator's language or field says nothing of how they judge.
    skipped = Share(figures.verdicts[Judgment.Verdict.SKIP] - figures.not_mine, total - figures.not_mine)
    # Annotators from elsewhere cannot be talked to.
    warnings = [] if user.is_imported else list(_warnings(project, user.username, figures, too_fast, skipped))
    return Person(user, figures, total, too_fast, skipped, warnings)


def _warnings(
    project: Project, name: str, figures: AnnotatorFigures, too_fast: Share, skipped: Share
) -> Iterable[str]:
    gold, left, repeats = figures.gold, figures.left, figures.repeats
    if gold.total >= ENOUGH_GOLD and gold.interval[1] < project.qualification_pass:
        yield _(
            "%(name)s is right on %(count)d of %(total)d gold comparisons (%(share)s). This project asks for "
            "%(bar)s. Look at their verdicts, and talk about the guidelines."
        ) % _words(name, gold, bar=percent(project.qualification_pass))
    low, high = left.interval
    if (
        left.total >= ENOUGH_PREFERENCES
        and not low <= 0.5 <= high
        and abs((left.value or 0) - 0.5) > LEFT_FROM_HALF
    ):
        side = _("left") if (left.value or 0) > 0.5 else _("right")
        yield _(
            "%(name)s prefers the %(side)s completion far more often than chance allows (%(share)s left of %(total)d). "
            "Sides are drawn at random, so something other than the text decides."
        ) % _words(name, left, side=side)
    if repeats.total >= ENOUGH_REPEATS and repeats.interval[1] < LEAST_CONSISTENT:
        yield _(
            "%(name)s gave the same verdict on %(count)d of %(total)d repeated comparisons only (%(share)s)."
        ) % _words(name, repeats)
    if too_fast.total >= ENOUGH_JUDGMENTS and (too_fast.value or 0) > MOST_TOO_FAST:
        yield _(
            "%(name)s judged %(count)d of %(total)d comparisons faster than they can be read (%(share)s)."
        ) % _words(name, too_fast)
    if skipped.total >= ENOUGH_JUDGMENTS and (skipped.value or 0) > MOST_SKIPPED:
        yield _(
            "%(name)s skipped %(count)d of %(total)d comparisons (%(share)s): ask what is unclear."
        ) % _words(name, skipped)


def _words(name: str, share: Share, **more: str) -> dict[str, str | int]:
    return {"name": name, "count": share.count, "total": share.total, "share": percent(share.value), **more}


def _mix(project: Project) -> list[tuple[str, Share]]:
    """Return each verdict's share of the current judgments, strengths apart."""
    rows = (
        Judgment.objects.current()
        .filter(project=project)
        .values("verdict", "strength")
        .annotate(count=Count("pk"))
        .order_by()
    )
    counts = {(row["verdict"], row["strength"]): row["count"] for row in rows}
    total = sum(counts.values())
    verdicts = [
        *((Judgment.Verdict.PREFER.value, strength) for strength in reversed(Judgment.Strength.values)),
        *((verdict, None) for verdict in Judgment.Verdict.values if verdict != Judgment.Verdict.PREFER),
    ]
    if counts.get(unscaled := (Judgment.Verdict.PREFER.value, None)):  # a file did not say how much better
        verdicts.insert(0, unscaled)
    labels: dict[str | int, object] = {}
    labels.update(Judgment.Verdict.choices)
    labels.update(Judgment.Strength.choices)
    return [
        (str(labels[strength or verdict]), Share(counts.get((verdict, strength), 0), total))
        for verdict, strength in verdicts
    ]


def identity_leaks(project: Project) -> list[int]:
    """Return the comparisons in which one of the newest completions names its model: the judging is not blind."""
    policies = list(Policy.objects.filter(project=project).only("name", "base_model"))
    telling = make_name_pattern({name for policy in policies for name in (policy.name, policy.base_model)})
    newest = Completion.objects.filter(policy__in=policies).order_by("-pk").values_list("pk", "text")
    leaking = [pk for pk, text in newest[:LEAKS_LOOKED_AT] if telling.search(text[:20_000])]
    return list(
        Comparison.objects.filter(Q(first__in=leaking) | Q(second__in=leaking), withdrawn_at=None)
        .order_by("-pk")
        .values_list("pk", flat=True)[:50]
    )
