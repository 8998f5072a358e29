"""Prompts, comparisons, and verdicts by name, for every test that needs some."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from annotate.judgments import judging
from annotate.judgments.verdicts import Verdict
from annotate.models import Claim, Comparison, Completion, Judgment, Policy, Project, Prompt, User
from annotate.queueing import queue

SKIP, TIE = Verdict("skip"), Verdict("tie")
WORD = "splendidly"  # in the better completions of `make_comparisons`


def later(minutes: float) -> datetime:
    return timezone.now() + timedelta(minutes=minutes)


def compare(
    project: Project,
    content: Any,
    first: str,
    second: str,
    *,
    policies: tuple[Policy | None, Policy | None] | None = None,
    **fields: Any,
) -> Comparison:
    """Create a prompt with two completions, written by `policies` (the project's current one)."""
    return compare_many(project, [(content, first, second)], policies=policies, **fields)[0]


def compare_many(
    project: Project,
    rows: Sequence[tuple[Any, str, str]],
    *,
    policies: tuple[Policy | None, Policy | None] | None = None,
    **fields: Any,
) -> list[Comparison]:
    """Create a prompt with two completions for each of `rows`, a content and two texts, in three statements."""
    writers = policies or (project.current_policy, project.current_policy)
    prompts = [Prompt(project=project) for _ in rows]
    for prompt, (content, *_texts) in zip(prompts, rows, strict=True):
        prompt.set_content(content)
    Prompt.objects.bulk_create(prompts)
    shown = [
        [
            Completion(prompt=prompt, policy=policy, text=text)
            for policy, text in zip(writers, texts, strict=True)
        ]
        for prompt, (_content, *texts) in zip(prompts, rows, strict=True)
    ]
    Completion.objects.bulk_create([completion for two in shown for completion in two])
    return Comparison.objects.bulk_create(
        Comparison(
            project=project,
            prompt=first.prompt,
            first=first,
            second=second,
            **({"gold_preferred": first} if fields.get("kind") == "gold" else {}) | fields,
        )
        for first, second in shown
    )


def pair(
    prompt: Prompt,
    texts: tuple[str, str],
    *,
    policies: tuple[Policy | None, Policy | None] | None = None,
    **fields: Any,
) -> Comparison:
    """Compare two completions of a prompt, written by `policies` (the project's current one)."""
    project = prompt.project
    writers = policies or (project.current_policy, project.current_policy)
    shown = [
        Completion.objects.create(prompt=prompt, policy=policy, text=text)
        for policy, text in zip(writers, texts, strict=True)
    ]
    if fields.get("kind") == "gold":
        fields.setdefault("gold_preferred", shown[0])
    return Comparison.objects.create(
        project=project, prompt=prompt, first=shown[0], second=shown[1], **fields
    )


def left(claim: Claim, strength: int = 2, **notes: Any) -> Verdict:
    """Return a preference for the completion on the left of a claim."""
    return Verdict("prefer", claim.left_id, strength, **notes)


def right(claim: Claim, strength: int = 1, **notes: Any) -> Verdict:
    """Return a preference for the completion on the right of a claim."""
    return Verdict("prefer", claim.right_id, strength, **notes)


def judge(project: Project, user: User, what: str = "tie", **notes: Any) -> Judgment:
    """Judge what the queue hands out: "left", "right", "first", "second", or a verdict's name."""
    claim = queue.claim(project, user)
    assert claim is not None, f"Nothing is left for {user}."
    return judging.record(project, user, claim.token, named(claim, what, **notes))


def judge_all(project: Project, user: User, said: dict[int, str] | None = None, default: str = "tie") -> None:
    """Judge all that the queue hands out: by the comparison's id, or by `default`."""
    while claim := queue.claim(project, user):
        what = (said or {}).get(claim.comparison_id, default)
        judging.record(project, user, claim.token, named(claim, what))


def judge_by_word(project: Project, user: User) -> None:
    """Judge all that the queue hands out: better is the completion that holds WORD."""
    while claim := queue.claim(project, user):
        what = "first" if WORD in claim.comparison.first.text else "second"
        judging.record(project, user, claim.token, named(claim, what))


def judged_by_word(comparisons: Sequence[Comparison], user: User) -> None:
    """Leave what `judge_by_word` leaves of comparisons that are open to `user`, in two statements.

    tests/annotate/queueing/test_queue.py compares the rows.
    """
    now = timezone.now()
    claims, judgments = [], []
    for comparison in comparisons:
        sides = [comparison.first, comparison.second]
        random.shuffle(sides)
        common = {
            "project": comparison.project,
            "comparison": comparison,
            "annotator": user,
            "left": sides[0],
            "right": sides[1],
        }
        lease = timedelta(minutes=comparison.project.lease_minutes)
        claim = Claim(**common, state=Claim.State.JUDGED, claimed_at=now, seen_at=now, expires_at=now + lease)
        claims.append(claim)
        better = comparison.first if WORD in comparison.first.text else comparison.second
        judgments.append(
            Judgment(
                **common,
                token=claim.token,
                verdict="prefer",
                preferred=better,
                strength=2,
                seconds=0.0,
                too_fast=comparison.project.min_seconds > 0,
                first_at=now,
                created_at=now,
            )
        )
    Claim.objects.bulk_create(claims)
    Judgment.objects.bulk_create(judgments)


def say(
    user: User, comparison: Comparison, what: str, strength: int = 2, *, left: str = "first", **options: Any
) -> Judgment:
    """Let `user` judge this comparison, whatever the queue says. `left` is the side of `first`."""
    shown = [comparison.first, comparison.second]
    if left == "second":
        shown.reverse()
    claim = Claim.objects.create(
        project=comparison.project,
        comparison=comparison,
        annotator=user,
        left=shown[0],
        right=shown[1],
        expires_at=later(10),
    )
    return judging.record(comparison.project, user, claim.token, named(claim, what, strength), **options)


def named(claim: Claim, what: str, strength: int = 2, **notes: Any) -> Verdict:
    preferred = {
        "left": claim.left_id,
        "right": claim.right_id,
        "first": claim.comparison.first_id,
        "second": claim.comparison.second_id,
    }.get(what)
    return Verdict("prefer", preferred, strength, **notes) if preferred else Verdict(what, **notes)
