"""Real processes on one real database: no annotator gets too much, nothing is lost, nothing is stored twice.

label-studio on SQLite judged 47 of 567 tasks twice at overlap 1; doccano#1236 lost labels under four web workers.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from annotate.imports import records, uploads, writing
from annotate.judgments import judging, revising, undoing
from annotate.models import Comparison, Completion, Import, Judgment, Membership, Project
from annotate.people import members
from annotate.queueing import queue
from tests.annotate.invariants import broken_rules
from tests.factories import SKIP, TIE
from tests.meetings import wait_for_the_other

COMPARISONS = 40


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("reaps", [pytest.param("no", marks=pytest.mark.chaos), "yes"])
def test_processes_judging_at_once_keep_every_rule(project, make_member, make_comparisons, reaps):
    make_comparisons(COMPARISONS, needed=2)
    make_comparisons(5, kind="gold")
    Project.objects.update(gold_rate=0.1)
    people = [make_member(name, "annotator") for name in ("anna", "bela", "cleo")]
    start = time.time() + 4  # Python and Django have started everywhere by then
    # The last person has two tabs.
    browsers = [
        spawn(person.username, seed, start, reaps) for seed, person in enumerate([*people, people[-1]])
    ]
    sent = set()
    for browser in browsers:
        out, err = browser.communicate(timeout=120)
        assert browser.returncode == 0, err
        sent |= set(out.split())

    assert broken_rules(project) == []
    assert len(sent) >= COMPARISONS
    stored = {str(token) for token in Judgment.objects.values_list("token", flat=True)}
    assert stored >= sent, "A verdict that was sent is not stored."
    if reaps == "no":  # what one tab leaves the other may be judging, so its person may be late
        assert not Judgment.objects.filter(late=True).exclude(annotator=people[-1]).exists()
    for person in people:  # what the last browsers left behind is not lost either
        while claim := queue.claim(project, person):
            judging.record(project, person, claim.token, TIE)
    assert broken_rules(project) == []
    for comparison in Comparison.objects.exclude(kind="gold"):
        assert comparison.judged >= comparison.needed or comparison.skipped == len(people) - comparison.judged


@pytest.mark.django_db(transaction=True)
def test_a_skip_whose_place_is_being_taken_is_not_undone(
    project, teammate, owner, make_comparisons, commits_first
):
    make_comparisons(1)
    claim = queue.claim(project, teammate)
    judging.record(project, teammate, claim.token, SKIP)
    theirs = commits_first(lambda: queue.claim(project, owner))
    assert undoing.undo(project, teammate) is None
    theirs.result()
    assert broken_rules(project) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("older", [0, 1])
def test_undo_beside_a_revision_takes_back_the_revised_one(
    project, teammate, make_comparisons, commits_first, older
):
    make_comparisons(older + 1)
    for _ in range(older + 1):
        claim = queue.claim(project, teammate)
        latest = judging.record(project, teammate, claim.token, TIE)
    both_bad = judging.Verdict("both_bad")
    other = commits_first(lambda: revising.revise(project, teammate, latest.pk, both_bad))
    reopened = undoing.undo(project, teammate)
    other.result()
    assert reopened is not None
    assert (reopened.comparison_id, reopened.draft["verdict"]) == (latest.comparison_id, "both_bad")
    assert Judgment.objects.current().count() == older
    assert broken_rules(project) == []


@pytest.mark.django_db(transaction=True)
def test_what_another_tab_judges_meanwhile_is_not_claimed_again(
    project, teammate, make_comparisons, commits_first
):
    make_comparisons(1, needed=2)

    def judge() -> None:
        claim = queue.claim(project, teammate)
        assert claim is not None
        judging.record(project, teammate, claim.token, TIE)

    other = commits_first(judge)
    assert queue.claim(project, teammate) is None
    other.result()
    assert Judgment.objects.count() == 1
    assert broken_rules(project) == []


@pytest.mark.django_db(transaction=True)
def test_what_is_claimed_while_its_import_is_withdrawn_stays(project, owner, make_comparisons, commits_first):
    upload = Import.objects.create(
        project=project, filename="pairs.jsonl", format="jsonl", size=1, state=Import.State.DONE
    )
    (one,) = make_comparisons(1, batch=uploads.batch(upload))
    theirs = commits_first(lambda: queue.claim(project, owner))
    assert uploads.withdraw(upload, upload.created_by) == (0, 0)
    theirs.result()
    one.refresh_from_db()
    assert (one.claimed, one.withdrawn_at) == (1, None)


@pytest.mark.django_db(transaction=True)
def test_somebody_who_is_judging_can_be_removed(project, owner, teammate, make_comparisons, monkeypatch):
    make_comparisons(4)
    live = queue.claim(project, teammate)
    queue.claim_next(project, teammate)
    admin = Membership.objects.get(user=owner)
    real = queue.advance
    judging_began, removed = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        judging_began.set()
        wait_for_the_other(removed.is_set)
        return real(*arguments)

    monkeypatch.setattr(queue, "advance", slowly)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(closing, judging.judge_and_next, project, teammate, live.token, TIE)
        assert judging_began.wait(60)
        members.remove_member(admin, Membership.objects.get(user=teammate).pk)
        removed.set()
        other.result(60)
    assert Judgment.objects.count() == 1
    assert broken_rules(project) == []


@pytest.mark.django_db(transaction=True)
def test_an_import_sent_twice_at_once_stores_nothing_twice(project, commits_first):
    bring_in(project, "A review begins", "fair")  # so that the prompt and the policy are there
    other = commits_first(lambda: bring_in(project, "A review begins", "good"))
    bring_in(Project.objects.get(), "A review begins", "good")
    other.result()
    assert Completion.objects.filter(text="good").count() == 1
    assert Comparison.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_first_imports_at_once_both_arrive(project, commits_first):
    other = commits_first(lambda: bring_in(project, "One begins", "fair"))
    bring_in(Project.objects.get(), "Another begins", "good")
    other.result()
    assert Comparison.objects.count() == 2


def bring_in(project: Project, prompt: str, completion: str) -> None:
    item = records.parse({"prompt": prompt, "completion_a": completion, "completion_b": "bad"})
    writing.write(project, [(1, item)])


def closing(act: Callable[..., Any], *arguments: Any) -> Any:
    """Call this in a thread: it closes the thread's own connection."""
    try:
        return act(*arguments)
    finally:
        connection.close()


def spawn(name: str, seed: int, start: float, reaps: str) -> "subprocess.Popen[str]":
    environment: dict[str, Any] = os.environ | {
        "WHETSTONE_TEST_DATABASE": str(connection.settings_dict["NAME"]),
        "PYTHONPATH": str(settings.BASE_DIR),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.annotate.queueing.judge_process", name, str(seed), str(start), reaps],
        cwd=settings.BASE_DIR,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
