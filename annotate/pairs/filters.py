"""The rows that leave: filters of judgments and of pairs, and every judged comparison with the reason why it
stays."""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from annotate.models import Flag, Judgment, Project
from annotate.pairs import aggregation
from annotate.pairs.aggregation import Decision, decide
from annotate.pairs.settings import EXCLUSIONS, PairSettings
from annotate.reports.search import has_metadata

REASONS = EXCLUSIONS | {
    "held_out": _("on held-out prompts"),
    "not_held_out": _("on prompts for training"),
    "weak": _("with too weak a preference"),
    "disputed": _("with too little agreement"),
    "decided": _("not tied"),
    "several_messages": _("with a completion of several messages"),
    "images": _("with images"),
    "calls": _("with calls of tools"),
    "reasoning": _("with a completion’s reasoning"),
    "empty": _("with an empty completion"),
    "blanks": _("with completions that differ only in the blanks around them"),
}
# Contents for which a format may have no place.
CONTENTS: dict[str, Callable[[], Q]] = {
    "several_messages": aggregation.has_several_messages,
    "images": aggregation.has_images,
    "calls": aggregation.has_calls,
    "reasoning": aggregation.has_reasoning,
    "empty": aggregation.has_empty_completion,
    "blanks": aggregation.differs_in_blanks,
}


@dataclass(frozen=True)
class Filters:
    """The wanted rows. `since`: comparisons with a judgment from then on. `until`: judgments from before then.

    `annotators`: only these people's judgments. `judged_by`: those given here ("people"), or the imported ones.
    `policy`: comparisons with a completion of it. `held_out`: "leave" out those on held-out prompts, which are for
    evaluation, "include" them, or "only" them. `flagged`: comparisons with an open flag: "only" them, or "leave" them
    out. `metadata`: a key, or “key=value”, of the comparison or its prompt.

    The others are about pairs: the least mean strength, the least share of agreeing votes (the label), and whether
    ties leave too ("leave", "include", "only"). `without`: no pair with these of CONTENTS, for which the format has no
    place.
    """

    since: datetime | None = None
    until: datetime | None = None
    annotators: Sequence[int] = ()
    judged_by: str = ""
    kind: str = ""
    policy: int | None = None
    batch: str = ""
    flagged: str = ""
    metadata: str = ""
    held_out: str = "leave"
    strength: float = 0.0
    agreement: float = 0.0
    ties: str = "leave"
    without: Sequence[str] = ()

    @property
    def side(self) -> bool | None:
        """Return which prompts leave: the held-out ones (True), those for training, or None for both."""
        return None if self.held_out == "include" else self.held_out == "only"

    def judgments(self) -> Q:
        """Return the condition on Judgment."""
        found = self._about_time()
        if self.annotators:
            found &= Q(annotator__in=self.annotators)
        if self.judged_by:
            found &= Q(import_batch="") if self.judged_by == "people" else ~Q(import_batch="")
        if self.kind:
            found &= Q(comparison__kind=self.kind)
        if self.policy:
            found &= Q(comparison__first__policy=self.policy) | Q(comparison__second__policy=self.policy)
        if self.batch:
            found &= Q(comparison__batch=self.batch)
        if self.metadata:
            paths = ("comparison__metadata", "comparison__prompt__metadata")
            found &= has_metadata(self.metadata, paths[0]) | has_metadata(self.metadata, paths[1])
        if self.flagged:
            flagged = Q(Exists(Flag.objects.open().filter(comparison=OuterRef("comparison"))))
            found &= flagged if self.flagged == "only" else ~flagged
        if self.side is not None:
            found &= Q(comparison__prompt__held_out=self.side)
        return found

    def _about_time(self) -> Q:
        found = Q(created_at__lt=self.until) if self.until else Q()
        if self.since:
            later = Judgment.objects.filter(comparison=OuterRef("comparison"), created_at__gte=self.since)
            if self.until:
                later = later.filter(created_at__lt=self.until)
            found &= Q(Exists(later.current()))
        return found

    def why_not(self, decision: Decision) -> str | None:
        """Return the reason why a comparison leaves as no pair, a key of REASONS, or None if it leaves."""
        if self.side not in (None, decision.held_out):
            return "held_out" if decision.held_out else "not_held_out"
        made = decision.made
        if isinstance(made, str):
            return made
        is_tie = made.label == 0.5
        if self.ties == ("leave" if is_tie else "only"):
            return "tie" if is_tie else "decided"
        if not is_tie and made.margin < self.strength:
            return "weak"
        return "disputed" if not is_tie and made.label < self.agreement else None

    def unwanted(self) -> dict[str, Q]:
        """Return the conditions on which a comparison leaves as no pair, whatever was judged, by reason."""
        return {name: CONTENTS[name]() for name in self.without}

    def settings(self, settings: PairSettings | None) -> PairSettings:
        """Return how judgments become pairs, with ties kept only where this lets them out."""
        return replace(settings or PairSettings(), ties="drop" if self.ties == "leave" else "half")


def sift(
    project: Project,
    filters: Filters,
    settings: PairSettings | None = None,
    *,
    equal: Container[int] | None = None,
) -> Iterator[tuple[Decision, str | None]]:
    """Yield each comparison that the filters of judgments choose, and the reason why it leaves as no pair, or None.

    `equal` is as in `decide`.
    """
    chosen, unwanted = filters.judgments(), filters.unwanted()
    for decision in decide(project, filters.settings(settings), chosen, equal=equal, unwanted=unwanted):
        yield decision, filters.why_not(decision)
