"""Whatever people do, in whatever order, with time passing: the rules of the queue hold after every step."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from annotate.errors import RefusalError
from annotate.judgments import judging, revising, undoing
from annotate.judgments.judging import Verdict
from annotate.models import (
    Claim,
    Comparison,
    Completion,
    Judgment,
    Membership,
    Policy,
    Project,
    Prompt,
    User,
)
from annotate.queueing import queue
from tests.annotate.invariants import broken_rules
from tests.machines import run_machine

ACTS = {
    "claim": 5,
    "claim and fetch ahead": 5,
    "judge": 4,
    "judge and next": 4,
    "revise": 2,
    "undo": 4,
    "redo": 3,
    "renew": 2,
    "leave": 1,
    "reap": 1,
    "withdraw or restore": 1,
    "wait": 3,
}
acts = st.tuples(
    st.sampled_from([act for act, often in ACTS.items() for _ in range(often)]),
    st.integers(0, 2),  # who
    st.integers(0, 100),  # which, of whatever there is
    st.sampled_from(["left", "right", "tie", "both_bad", "skip", "skip"]),
)


class Desk(RuleBasedStateMachine):
    """Three annotators on a few comparisons. `given` remembers each token handed out, also stale ones."""

    @initialize(
        more=st.lists(st.sampled_from([("gate", 2), ("standard", 2), ("gold", 1), ("gate", 1)]), max_size=3),
        gold_rate=st.sampled_from([0.0, 0.5]),
    )
    def begin(self, more: list[tuple[str, int]], gold_rate: float) -> None:
        name = uuid.uuid4().hex
        self.now = timezone.now()
        self.project = Project.objects.create(slug=name, name=name, gold_rate=gold_rate, repeat_rate=0.1)
        self.people = [User.objects.create(username=f"{name}-{number}") for number in range(3)]
        for person in self.people:
            Membership.objects.create(project=self.project, user=person, role="annotator")
        policy = Policy.objects.create(project=self.project, name="outside", kind="external")
        for number, (kind, needed) in enumerate([("standard", 1), ("standard", 2), ("standard", 1), *more]):
            prompt = Prompt(project=self.project)
            prompt.set_content(f"Prompt {number}")
            prompt.save()
            first, second = (
                Completion.objects.create(prompt=prompt, policy=policy, text=text)
                for text in ("One.", "Two.")
            )
            Comparison.objects.create(
                project=self.project,
                prompt=prompt,
                first=first,
                second=second,
                kind=kind,
                needed=needed,
                priority=number % 2,
                gold_preferred=first if kind == "gold" else None,
            )
        self.given: list[tuple[User, Claim, uuid.UUID]] = []

    def verdict(self, claim: Claim, side: str) -> Verdict:
        if side in ("left", "right"):
            return Verdict("prefer", claim.left_id if side == "left" else claim.right_id, 1)
        return Verdict(side)

    @rule(several=st.lists(acts, min_size=5, max_size=12))
    def people_act(self, several: list[tuple[str, int, int, str]]) -> None:
        """Several acts in a row: drawn together, so that no act is left out of a whole run."""
        for act, person, which, side in several:
            self.act(act, self.people[person], which, side)
            assert broken_rules(self.project) == [], act

    def act(self, act: str, user: User, which: int, side: str) -> None:
        match act:
            case "claim" | "claim and fetch ahead":
                self.claim(user, ahead=act != "claim")
            case "judge":
                self.judge(which, side)
            case "judge and next":
                self.judge_and_next(user, side)
            case "revise":
                self.revise(which, side)
            case "undo":
                self.remember(user, undoing.undo(self.project, user, now=self.now))
            case "redo":
                undoing.redo(self.project, user, now=self.now)
            case "renew" if self.given:
                holder, _claim, token = self.given[which % len(self.given)]
                queue.renew(self.project, holder, token, now=self.now)
            case "leave":
                queue.leave(self.project, user, now=self.now)
            case "reap":
                queue.expire_claims(self.project, now=self.now)
            case "withdraw or restore":
                comparisons = Comparison.objects.filter(project=self.project).order_by("pk")
                comparison = comparisons[which % comparisons.count()]
                assert comparison.withdraw() or comparison.restore()
            case "wait":
                self.now += timedelta(minutes=(1, 3, 11, 11)[which % 4])

    def remember(self, user: User, *claims: Claim | None) -> None:
        self.given += [(user, claim, claim.token) for claim in claims if claim is not None]

    def claim(self, user: User, ahead: bool) -> None:
        settled = set(self.own_judgments(user).values_list("comparison", flat=True))
        left_over = self.left_over_for(user)
        claim = queue.claim(self.project, user, now=self.now)
        if claim is None:
            assert not left_over, "An annotator was told that nothing is left while there was something."
        else:
            assert claim.state == "live"
            assert claim.comparison_id not in settled, "An annotator was handed a comparison twice."
            self.remember(user, claim)
            if ahead:
                self.remember(user, queue.claim_next(self.project, user, now=self.now))

    def left_over_for(self, user: User) -> set[int]:
        """Return comparisons that this annotator has not had and no other has on screen, gold aside."""
        left_over = set()
        for comparison in Comparison.objects.filter(project=self.project, withdrawn_at=None).exclude(
            kind="gold"
        ):
            claims = {claim.annotator_id: claim for claim in comparison.claims.all()}
            mine = claims.pop(user.pk, None)
            on_screen = [one for one in claims.values() if one.state == "live" and one.expires_at > self.now]
            if (
                (mine is None or mine.state in Claim.FREED)
                and comparison.reserved_for_id in (None, user.pk)
                and comparison.judged + len(on_screen) < comparison.needed
                and comparison.skipped < comparison.needed + 2
            ):
                left_over.add(comparison.pk)
        return left_over

    def own_judgments(self, user: User) -> Any:
        return Judgment.objects.filter(project=self.project, annotator=user, superseded_at=None)

    def judge(self, which: int, side: str) -> None:
        """Return a verdict on any token ever handed out: live, stale, given away, or judged before."""
        if self.given:
            user, claim, token = self.given[which % len(self.given)]
            stored = Judgment.objects.filter(token=token)
            before = list(stored.values())
            judgment = judging.record(self.project, user, token, self.verdict(claim, side), now=self.now)
            # Nothing is stored under the token of a claim that a redo settled with the same verdict.
            assert judgment == stored.first() or judgment.verdict == self.verdict(claim, side).verdict
            assert not before or list(stored.values()) == before, "A replay changed a judgment."

    def judge_and_next(self, user: User, side: str) -> None:
        live = Claim.objects.filter(project=self.project, annotator=user, state="live").first()
        if live is not None:
            turn = judging.judge_and_next(
                self.project, user, live.token, self.verdict(live, side), now=self.now
            )
            self.remember(user, turn.live, turn.next)

    def revise(self, which: int, side: str) -> None:
        judgments = Judgment.objects.filter(project=self.project).order_by("pk")
        if count := judgments.count():
            judgment = judgments[which % count]
            claim = Claim.objects.get(comparison=judgment.comparison_id, annotator=judgment.annotator_id)
            try:
                revising.revise(
                    judgment.project, judgment.annotator, judgment.pk, self.verdict(claim, side), now=self.now
                )
            except RefusalError:
                assert judgment.superseded_at is not None


@pytest.mark.django_db
@pytest.mark.parametrize(
    "examples", [8, pytest.param(150, marks=[pytest.mark.chaos, pytest.mark.timeout(1_800)])]
)
def test_the_rules_of_the_queue_hold_whatever_happens(examples: int) -> None:
    run_machine(Desk, examples=examples, steps=8)
