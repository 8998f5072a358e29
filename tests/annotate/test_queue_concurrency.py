"""Real processes on one real database: nobody gets too much, nothing is lost, nothing is stored twice.

label-studio on SQLite judged 47 of 567 tasks twice at overlap 1; doccano#1236 lost labels under four web workers.
"""

import os
import subprocess
import sys
import time
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from annotate import judging, queue
from annotate.judging import Verdict
from annotate.models import Comparison, Judgment, Project
from tests.annotate.invariants import broken_rules

COMPARISONS = 40


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("reaps", ["no", "yes"])
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
            judging.record(claim.token, person, Verdict("tie"))
    assert broken_rules(project) == []
    for comparison in Comparison.objects.exclude(kind="gold"):
        assert comparison.judged >= comparison.needed or comparison.skipped == len(people) - comparison.judged


def spawn(name: str, seed: int, start: float, reaps: str) -> "subprocess.Popen[str]":
    environment: dict[str, Any] = os.environ | {
        "WHETSTONE_TEST_DATABASE": str(connection.settings_dict["NAME"]),
        "PYTHONPATH": str(settings.BASE_DIR),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.annotate.judge_process", name, str(seed), str(start), reaps],
        cwd=settings.BASE_DIR,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
