"""The rules of a project's queue that hold at all times, read from the rows themselves."""

from collections import Counter, defaultdict
from typing import Any

from annotate.models import Claim, Comparison, Judgment, Project

Rows = list[dict[str, Any]]


def broken_rules(project: Project) -> list[str]:
    """Return the rules that do not hold, in words; empty if all do."""
    claims, judgments = defaultdict[int, Rows](list), defaultdict[int, Rows](list)
    for claim in Claim.objects.filter(project=project).values(
        "comparison_id", "annotator_id", "state", "left_id", "right_id", "undone__late"
    ):
        claims[claim["comparison_id"]].append(claim)
    for judgment in Judgment.objects.filter(project=project, superseded_at=None).values(
        "comparison_id", "annotator_id", "verdict", "skip_reason", "late", "left_id", "right_id"
    ):
        judgments[judgment["comparison_id"]].append(judgment)
    broken = []
    for comparison in Comparison.objects.filter(project=project):
        found = rules_broken_by(comparison, claims[comparison.pk], judgments[comparison.pk])
        broken += [f"{comparison}: {rule}" for rule in found]
    return broken


def rules_broken_by(comparison: Comparison, claims: Rows, judgments: Rows) -> list[str]:
    states = Counter(claim["state"] for claim in claims)
    passed = sum(judgment["skip_reason"] == "not_mine" for judgment in judgments)
    held = [claim for claim in claims if claim["state"] in ("live", "next")]
    verdicts = [judgment for judgment in judgments if judgment["verdict"] != "skip"]
    # A late verdict may come on top, and so may the claim that its undoing opens.
    in_time = [row for row in verdicts if not row["late"]] + [row for row in held if not row["undone__late"]]
    shown = {frozenset((row["left_id"], row["right_id"])) for row in [*claims, *judgments]}
    rules = {
        "claimed equals its rows": comparison.claimed == len(held),
        "judged equals its rows": comparison.judged == len(verdicts) == states["judged"],
        "skipped equals its rows": comparison.skipped == states["skipped"]
        and comparison.skipped + passed == len(judgments) - len(verdicts),
        "passed equals its rows": passed == states["passed"],
        # One that is closed to people needs what it has. Who looks again at their own judgment of it holds no place.
        "no more than needed": comparison.kind == "gold"
        or len(in_time) - len(held) * comparison.closed_to_people <= comparison.needed,
        "closed to people": not comparison.closed_to_people or comparison.needed <= comparison.judged,
        "one claim per person": len({row["annotator_id"] for row in claims}) == len(claims),
        "one current judgment per person": len({row["annotator_id"] for row in judgments}) == len(judgments),
        "both completions shown": shown <= {frozenset((comparison.first_id, comparison.second_id))},
    }
    return [rule for rule, holds in rules.items() if not holds]
