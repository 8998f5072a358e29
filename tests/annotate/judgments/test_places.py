"""Places for people on comparisons that were judged elsewhere: what opens them, what closes them, and nothing else."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from annotate.imports.expansion import Choices, expand
from annotate.imports.writing import write
from annotate.judgments import imported, judging, places, revising, undoing
from annotate.judgments.verdicts import Verdict
from annotate.models import Claim, Comparison, Judgment, Membership, Project, User
from annotate.projects import lifecycle
from annotate.queueing import queue
from annotate.sources.candidates import Answer, Candidate, Opinion
from tests.annotate.invariants import broken_rules
from tests.factories import SKIP, TIE, judge, judge_all
from tests.machines import run_machine


def judged_elsewhere(project, contents=("Once",)):
    """Import pairs that two annotators from elsewhere judged."""
    said = Opinion((1, 0), "", "maria"), Opinion((1, 0), "", "jan")
    rows = [Candidate(content, (Answer("upon"), Answer("more")), said) for content in contents]
    write(project, list(enumerate(item for row in rows for item in expand(row, Choices("judged")))))


@pytest.fixture
def two(project):
    """Import two pairs, which two people are asked about too."""
    judged_elsewhere(project, ("Once", "Twice"))
    project.judgments_needed = 2
    project.save()
    places.ask_people(project)


def counts(project):
    return list(project.comparisons.order_by("pk").values_list("needed", "judged"))


def test_what_people_are_asked_no_more_stays_closed(project, two, owner, teammate):
    """Nothing opens it again: no claim that ends, and no other setting. What was on screen is accepted, late."""
    judge(project, owner)
    on_screen, _ahead = queue.claim(project, teammate), queue.claim_next(project, teammate)
    assert places.ask_no_more(project) == 2
    assert judging.record(project, teammate, on_screen.token, TIE).late
    queue.leave(project, teammate)
    lifecycle.change_needed(project, 3)
    assert not Comparison.objects.open().exists()
    assert broken_rules(project) == []


@pytest.mark.parametrize("setting", [1, 2, 3])
@pytest.mark.parametrize("then", ["skip", "not mine", "leave", "expire", "judge", "redo", "revise to a skip"])
def test_taking_a_judgment_back_opens_no_closed_pair(project, two, owner, teammate, then, setting):
    judge_all(project, teammate)
    places.ask_no_more(project)
    before = counts(project)
    project.judgments_needed = setting
    project.save()
    now = timezone.now()
    if then == "revise to a skip":
        latest = Judgment.objects.current().filter(annotator=teammate).latest("pk")
        revising.revise(project, teammate, latest.pk, SKIP)
    else:
        claim = undoing.undo(project, teammate)
        assert not Comparison.objects.open().exists()
        {
            "skip": lambda: judging.record(project, teammate, claim.token, SKIP),
            "not mine": lambda: judging.record(
                project, teammate, claim.token, Verdict("skip", skip_reason="not_mine")
            ),
            "leave": lambda: queue.leave(project, teammate),
            "expire": lambda: queue.expire_claims(project, now=now + timedelta(days=1)),
            "judge": lambda: judging.record(project, teammate, claim.token, TIE),
            "redo": lambda: undoing.redo(project, teammate),
        }[then]()
    assert not Comparison.objects.open().exists()
    assert (queue.claim(project, owner), broken_rules(project)) == (None, [])
    if then in ("judge", "redo"):
        assert not Judgment.objects.current().filter(late=True).exists()
        assert counts(project) == before


def test_taking_a_judgment_back_opens_a_pair_that_is_asked_about(project, two, owner, teammate, researcher):
    judge_all(project, teammate)
    judge_all(project, researcher)
    claim = undoing.undo(project, teammate)
    judging.record(project, teammate, claim.token, SKIP)
    assert queue.claim(project, owner).comparison_id == claim.comparison_id


@pytest.mark.parametrize("setting", [1, 2, 3])
@pytest.mark.parametrize("others", [0, 1])
def test_taking_back_keeps_the_places_of_others(project, two, teammate, researcher, others, setting):
    """This holds for a pair that others filled, and for any setting by then."""
    if others:
        judge_all(project, researcher)
    project.judgments_needed = setting
    project.save()
    judge_all(project, teammate)
    before = counts(project)
    claim = undoing.undo(project, teammate)
    assert [needed for needed, _judged in counts(project)] == [4, 4]
    judging.record(project, teammate, claim.token, TIE)
    assert (counts(project), broken_rules(project)) == (before, [])


@pytest.mark.parametrize("setting", [1, 2, 3])
def test_taking_a_skip_back_keeps_the_places_of_others(project, two, teammate, setting):
    project.judgments_needed = setting
    project.save()
    judge(project, teammate, "skip")
    claim = undoing.undo(project, teammate)
    judging.record(project, teammate, claim.token, SKIP)
    assert (counts(project), broken_rules(project)) == ([(4, 2), (4, 2)], [])


def test_taking_a_late_judgment_back_opens_no_closed_pair(project, two, owner, teammate):
    claim = queue.claim(project, teammate)
    queue.leave(project, teammate)
    assert judging.record(project, teammate, claim.token, TIE).late
    places.ask_no_more(project)
    again = undoing.undo(project, teammate)
    assert not Comparison.objects.open().exists()
    judging.record(project, teammate, again.token, SKIP)
    assert (queue.claim(project, owner), broken_rules(project)) == (None, [])


def test_undoing_a_verdict_after_the_closing_takes_no_place(project, two, teammate):
    claim = queue.claim(project, teammate)
    places.ask_no_more(project)
    closed = counts(project)
    assert judging.record(project, teammate, claim.token, TIE).late
    undoing.undo(project, teammate)
    assert (counts(project), broken_rules(project)) == (closed, [])


def test_a_closed_pair_without_judgments_is_like_any_other(project, two, teammate):
    places.ask_no_more(project)
    imported.take_back(project, project.judgments.all())
    judge(project, teammate)
    undoing.undo(project, teammate)
    undoing.redo(project, teammate)
    assert (sorted(counts(project)), broken_rules(project)) == ([(1, 0), (1, 1)], [])


def test_asking_again_leaves_room_for_those_who_look_again(project, two, teammate, researcher):
    judge_all(project, teammate)
    judge(project, researcher)
    places.ask_no_more(project)
    undoing.undo(project, teammate)
    undoing.undo(project, researcher)
    project.judgments_needed = 1
    project.save()
    places.ask_people(project)
    assert broken_rules(project) == []


ACTS = {
    "judge": 6,
    "skip": 3,
    "undo": 6,
    "redo": 2,
    "revise": 3,
    "leave": 1,
    "expire": 2,
    "change the setting": 2,
    "change and apply the setting": 2,
    "ask people": 2,
    "ask no more": 2,
}
acts = st.tuples(
    st.sampled_from([act for act, often in ACTS.items() for _ in range(often)]),
    st.integers(0, 1),  # who
    st.integers(1, 3),  # the new setting
    st.sampled_from(["tie", "tie", "skip"]),
)


class Places(RuleBasedStateMachine):
    """Two people on a pair that was judged elsewhere twice. The model knows what it needs, and whether it is closed.

    While it is closed it needs what it has. Otherwise only an admin changes what it needs.
    """

    @initialize()
    def begin(self) -> None:
        name = uuid.uuid4().hex
        self.now = timezone.now()
        self.project = Project.objects.create(slug=name, name=name, judgments_needed=2)
        self.people = [User.objects.create(username=f"{name}-{number}") for number in range(2)]
        for person in self.people:
            Membership.objects.create(project=self.project, user=person, role="annotator")
        judged_elsewhere(self.project)
        places.ask_people(self.project)
        self.needed, self.closed = 4, False

    @rule(several=st.lists(acts, min_size=5, max_size=12))
    def people_act(self, several: list[tuple[str, int, int, str]]) -> None:
        for act, person, setting, said in several:
            before = self.pair()
            self.act(act, self.people[person], setting, said, before)
            self.check(act)

    def pair(self) -> Comparison:
        return Comparison.objects.get(project=self.project)

    def act(self, act: str, user: User, setting: int, said: str, before: Comparison) -> None:
        self.now += timedelta(seconds=1)
        live = Claim.objects.filter(project=self.project, annotator=user, state="live").first()
        match act:
            case "judge" | "skip":
                claim = live or queue.claim(self.project, user, now=self.now)
                if claim:
                    said = "skip" if act == "skip" else "tie"
                    judging.record(self.project, user, claim.token, Verdict(said), now=self.now)
            case "undo":
                undoing.undo(self.project, user, now=self.now)
            case "redo":
                undoing.redo(self.project, user, now=self.now)
            case "revise":
                mine = Judgment.objects.current().filter(project=self.project, annotator=user).first()
                if mine:
                    revising.revise(self.project, user, mine.pk, Verdict(said), now=self.now)
            case "leave":
                queue.leave(self.project, user, now=self.now)
            case "expire":
                queue.expire_claims(self.project, now=self.now + timedelta(minutes=11))
            case "change the setting" | "change and apply the setting":
                self.project.judgments_needed = setting
                apply = act != "change the setting"
                lifecycle.change_settings(
                    self.project, user, ["judgments_needed"], changed=[], apply_needed=apply
                )
                if apply and before.needed > before.judged:
                    self.needed = max(2 + setting, before.judged + before.claimed)
            case "ask people" if before.needed < 2 + self.project.judgments_needed:
                assert places.ask_people(self.project) == 1
                wanted = 2 + self.project.judgments_needed
                self.needed, self.closed = max(wanted, before.judged + before.claimed), False
            case "ask no more" if before.needed > before.judged:
                assert places.ask_no_more(self.project) == 1
                self.closed = True

    def check(self, act: str) -> None:
        pair = self.pair()
        judgments = Judgment.objects.current().filter(project=self.project).exclude(verdict="skip")
        in_time = judgments.filter(late=False).count()
        assert (pair.judged, pair.closed_to_people) == (judgments.count(), self.closed), act
        if self.closed:  # a late one may be among what it had when it was closed
            assert in_time <= pair.needed <= pair.judged, act
        else:
            assert pair.needed == self.needed, act
        assert broken_rules(self.project) == [], act
        for person in self.people:
            had = Claim.objects.filter(comparison=pair, annotator=person, state__in=Claim.HAD).exists()
            offered = Comparison.objects.open_to(person).filter(pk=pair.pk).exists()
            has_place = pair.judged + pair.claimed < self.needed
            assert offered == (not self.closed and has_place and not had and pair.skipped < pair.needed + 2)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "examples", [15, pytest.param(300, marks=[pytest.mark.chaos, pytest.mark.timeout(1_800)])]
)
def test_what_a_pair_needs_holds_whatever_happens(examples: int) -> None:
    run_machine(Places, examples=examples, steps=5)
