"""An import that is killed, and run again."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from django.db import connection

from annotate.models import Claim, Comparison, Completion, Judgment, Prompt
from tests.waiting import wait_for

ROWS = 12_000
BEFORE = (1, 4_000)  # prompts that are there when the process is killed

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(600),
]


def start(path: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "manage.py", "import_file", "reviews", str(path), "--json", "-"]
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "WHETSTONE_TEST_DATABASE": str(connection.settings_dict["NAME"]),
    }
    return subprocess.Popen(command, cwd=site.BASE_DIR, env=environment, stdout=subprocess.PIPE, text=True)


def test_an_import_that_is_killed_is_completed_by_another_run(project: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        for n in range(ROWS):
            row = {"prompt": f"Prompt {n}", "chosen": f"Good {n}", "rejected": f"Bad {n}", "id": str(n)}
            file.write(json.dumps(row) + "\n")
    for count in BEFORE:
        process = start(path)
        wait_for(lambda count=count: Prompt.objects.count() >= count, 120)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert 0 < Prompt.objects.count() < ROWS
        assert Judgment.objects.count() == Prompt.objects.count()  # a block is written whole
    process = start(path)
    report = json.loads(process.communicate(timeout=300)[0])
    assert (process.returncode, report["taken"]) == (0, ROWS)
    made, known = Counter(report["made"]), Counter(report["known"])
    assert made["prompts"] + known["duplicates"] == ROWS
    counts = [model.objects.count() for model in (Prompt, Comparison, Claim, Judgment)]
    assert (counts, Completion.objects.count()) == ([ROWS] * 4, 2 * ROWS)
    assert Comparison.objects.filter(judged=1, needed=1, claimed=0, skipped=0).count() == ROWS
    assert Judgment.objects.filter(preferred__text__startswith="Good").count() == ROWS
