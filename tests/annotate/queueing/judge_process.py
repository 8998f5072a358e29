"""One browser of the concurrency test: `python -m tests.annotate.queueing.judge_process USERNAME SEED START REAPS`.

Judges until nothing is left, and prints the tokens that it sent, one a line. Some verdicts are sent twice at once,
some are skips, some are undone, and the page is left now and then, as people do. All begin at the time START.
"""

import os
import random
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()

from django.db import connection  # noqa: E402 - models need the set-up above
from django.utils import timezone  # noqa: E402

from annotate.judgments import judging, undoing  # noqa: E402
from annotate.judgments.judging import Verdict  # noqa: E402
from annotate.models import Project, User  # noqa: E402
from annotate.queueing import queue  # noqa: E402


def main(username: str, seed: str, start: str, reaps: str) -> None:
    random.seed(int(seed))
    project, user = Project.objects.get(), User.objects.get(username=username)
    time.sleep(max(0.0, float(start) - time.time()))
    idle = 0
    while idle < 3:
        claim = queue.claim(project, user)
        if claim is None:
            idle += 1
            time.sleep(0.1)
            continue
        idle = 0
        turn = act(project, user, claim)
        if reaps == "yes" and random.random() < 0.1:
            queue.expire_claims(project, now=timezone.now() + timedelta(hours=1))
        if turn is not None and random.random() < 0.1:
            undoing.undo(project, user)
        elif turn is not None and random.random() < 0.1:
            queue.leave(project, user)


def act(project: Project, user: User, claim: Any) -> Any:
    """Send a verdict, now and then from two threads at the same moment."""
    verdict = Verdict("skip") if random.random() < 0.05 else Verdict("prefer", claim.left_id, 1)
    other = threading.Thread(target=send_again, args=(project, user, claim, verdict))
    twice = random.random() < 0.2
    if twice:
        other.start()
    turn = judging.judge_and_next(project, user, claim.token, verdict)
    print(claim.token, flush=True)
    if twice:
        other.join()
    return turn


def send_again(project: Project, user: User, claim: Any, verdict: Verdict) -> None:
    try:
        judging.record(project, user, claim.token, verdict)
    finally:
        connection.close()


main(*sys.argv[1:])
