"""Alarms: annotators whose verdicts are like chance by all that is known, with the evidence, and no accusation.

Each annotator is looked at by what they did not say themselves: gold, gates, a probe, and colleagues. How reliable
colleagues are is told by their agreement with each other alone, at the lower end of its interval. So two who only
contradict each other raise no alarm, nor does an honest one among spammers.

Reliability's interval is valid however often the page is read, and its level is divided by the number of annotators
looked at. An alarm needs the interval to hold one half, or to lie below it, and to end below MOST_RELIABLE.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.reports.reliability import Evidence
from primitives.reliability import Check, lasting_interval
from primitives.statistics import Share, percent, wilson

LEVEL = 0.05  # chance of any false alarm in a project, ever
MOST_RELIABLE = 0.7
ENOUGH_BETWEEN_OTHERS = 10  # comparisons that two colleagues judged
_CERTAIN = 0.99  # even gold may be wrong


@dataclass(frozen=True)
class Alarm:
    """An annotator whose preferences are like chance, and what tells so.

    `agreement` is theirs with `colleagues`, `others` that of these with each other. `gated` and `added` count votes
    that a gate, or another source by name, says something of.
    """

    annotator: int
    low: float
    high: float
    agreement: Share
    colleagues: int
    others: Share
    gold: Share
    gated: int
    added: Mapping[str, int]

    @property
    def sentence(self) -> str:
        """Say what is known, as one sentence for each kind of evidence."""
        said = [
            _("by what is known, their preferences are right between %(low)s and %(high)s of the time.")
            % {"low": percent(self.low), "high": percent(self.high)}
        ]
        if self.agreement.total:
            told = ngettext(
                "They agree with %(count)d colleague on %(share)s of %(total)d comparisons; colleagues agree with each "
                "other on %(others)s.",
                "They agree with %(count)d colleagues on %(share)s of %(total)d comparisons; these agree with each "
                "other on %(others)s.",
                self.colleagues,
            )
            said.append(
                told
                % {
                    "count": self.colleagues,
                    "share": percent(self.agreement.value),
                    "total": self.agreement.total,
                    "others": percent(self.others.value),
                }
            )
        if self.gold.total:
            said.append(
                _("They are right on %(count)d of %(total)d gold comparisons.")
                % {"count": self.gold.count, "total": self.gold.total}
            )
        if self.gated:
            said.append(_("Gates say something of %(count)d of their verdicts.") % {"count": self.gated})
        if probed := self.added.get("probe"):
            said.append(_("A probe says something of %(count)d of their verdicts.") % {"count": probed})
        return " ".join(said)


def find_alarms(evidence: Evidence) -> list[Alarm]:
    """Return an alarm for each annotator whose verdicts are like chance."""
    table = _Agreements(evidence)
    people = sorted(
        {*table.own, *evidence.gold, *evidence.gate, *(pk for one in evidence.added.values() for pk in one)}
    )
    looked_at = {one: checks for one in people if (checks := _checks(one, evidence, table))}
    found = []
    for annotator, checks in looked_at.items():
        low, high = lasting_interval(checks, LEVEL / len(looked_at))
        if low <= 0.5 and high < MOST_RELIABLE:
            found.append(_alarm(annotator, (low, high), evidence, table))
    return found


class _Agreements:
    """The agreement of preferences: each annotator's with colleagues, and of all.

    A vote among m others counts 1 / m with each of them.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.own: dict[int, Counter[bool]] = defaultdict(Counter)
        self.colleagues: dict[int, set[int]] = defaultdict(set)
        self.all: Counter[bool] = Counter()
        for met in evidence.met:
            if {met.one_said, met.other_said} <= {"first", "second"}:
                agreed, times = met.one_said == met.other_said, met.count / (met.judged - 1)
                self.all[agreed] += times  # type: ignore[assignment]
                for one, other in ((met.one, met.other), (met.other, met.one)):
                    self.own[one][agreed] += times  # type: ignore[assignment]
                    self.colleagues[one].add(other)

    def of_others(self, annotator: int) -> Share:
        """Return the agreement among all others."""
        left = {agreed: self.all[agreed] - self.own[annotator][agreed] for agreed in (True, False)}
        return Share(round(left[True]), round(left[True] + left[False]))

    def trust(self, annotator: int) -> float:
        """Return how reliable a colleague of theirs is at least: (1 + c) / 2 if they agree on (1 + c^2) / 2."""
        share = self.of_others(annotator)
        found = wilson(share.count, share.total)
        if not found or found.count < ENOUGH_BETWEEN_OTHERS:
            return 0.5
        return (1 + math.sqrt(max(0.0, 2 * found.low - 1))) / 2


def _checks(annotator: int, evidence: Evidence, table: _Agreements) -> list[Check]:
    """Return what all but their own votes say of these."""
    trust, own = table.trust(annotator), table.own.get(annotator, Counter())
    gold = evidence.gold.get(annotator, Share())
    found = [
        Check(trust, own[True]),
        Check(1 - trust, own[False]),
        Check(_CERTAIN, gold.count),
        Check(1 - _CERTAIN, gold.total - gold.count),
        *evidence.gate.get(annotator, ()),
        *(check for source in evidence.added.values() for check in source.get(annotator, ())),
    ]
    return [check for check in found if check.times and check.chance != 0.5]


def _alarm(annotator: int, interval: tuple[float, float], evidence: Evidence, table: _Agreements) -> Alarm:
    own = table.own.get(annotator, Counter()) if table.trust(annotator) > 0.5 else Counter[bool]()
    count = {
        name: round(sum(check.times for check in source.get(annotator, ())))
        for name, source in {"gate": evidence.gate, **evidence.added}.items()
    }
    return Alarm(
        annotator,
        *interval,
        agreement=Share(round(own[True]), round(own[True] + own[False])),
        colleagues=len(table.colleagues[annotator]) if own else 0,
        others=table.of_others(annotator),
        gold=evidence.gold.get(annotator, Share()),
        gated=count.pop("gate"),
        added=count,
    )
