"""`make bench-data`'s way out: rows a second and peak memory of exports, by format and number of rows.

Each case runs in a process of its own, whose high-water mark is the peak. Rows are judged pairs with texts of usual
lengths. SQLite by default; `--postgresql` starts a server of its own.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests import servers

CASES: dict[str, dict[str, str]] = {
    "jsonl": {},
    "jsonl, prompt, chosen and rejected alone": {"columns": "texts"},
    "parquet": {"format": "parquet"},
    "csv": {"format": "csv"},
    "openai": {"format": "openai"},
    "datasets, split in three": {"format": "datasets", "test": "10", "validation": "10"},
    "judgments": {"format": "judgments"},
}
SIZES = (10_000, 100_000)
AT_A_TIME = 2_000
WORDS = (
    "a",
    "quiet",
    "film",
    "about",
    "the",
    "sea",
    "that",
    "stays",
    "because",
    "its",
    "light",
    "is",
    "true",
)


def set_up() -> None:
    """Let this process use the database of the environment."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()


def fill(rows: int) -> None:
    """Make a project of judged comparisons: prompts of about 60 words, completions of about 90."""
    set_up()
    from django.core.management import call_command
    from django.utils import timezone

    from annotate.models import Claim, Comparison, Completion, Judgment, Policy, Project, Prompt, User

    call_command("migrate", verbosity=0)
    draw = random.Random(0)
    project = Project.objects.create(slug="bench", name="Bench", held_out_share=0)
    policy = Policy.objects.create(project=project, name="one", kind="external")
    person = User.objects.create_user("anna", password="password")

    def words(count: int) -> str:
        return " ".join(draw.choices(WORDS, k=count))

    for start in range(0, rows, AT_A_TIME):
        prompts = []
        for number in range(start, min(start + AT_A_TIME, rows)):
            prompt = Prompt(project=project)
            prompt.set_content(f"{number}: {words(60)}")
            prompts.append(prompt)
        Prompt.objects.bulk_create(prompts)
        texts = [Completion(prompt=prompt, policy=policy, text=words(90)) for prompt in prompts for _ in "ab"]
        Completion.objects.bulk_create(texts)
        pairs = list(zip(prompts, texts[::2], texts[1::2], strict=True))
        comparisons = Comparison.objects.bulk_create(
            Comparison(project=project, prompt=prompt, first=first, second=second)
            for prompt, first, second in pairs
        )
        now = timezone.now()
        claims = Claim.objects.bulk_create(
            Claim(project=project, comparison=one, annotator=person, left=one.first, right=one.second, state="judged",
                  expires_at=now)
            for one in comparisons
        )  # fmt: skip
        Judgment.objects.bulk_create(
            Judgment(project=project, comparison=claim.comparison, annotator=person, verdict="prefer",
                     preferred=draw.choice([claim.left, claim.right]), strength=2, left=claim.left, right=claim.right,
                     token=claim.token, seconds=4.0)
            for claim in claims
        )  # fmt: skip


def measure(case: str) -> None:
    """Write a case to nowhere, and print its rows, seconds and peak memory."""
    set_up()
    from annotate.exports.bundle import open_download
    from annotate.forms.exports import read_selection
    from annotate.models import Project

    selection = read_selection(Project.objects.get(), CASES[case])
    started, worked = time.perf_counter(), time.process_time()
    found = open_download(selection)
    size = sum(map(len, found.chunks))
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    rows = found.written.total
    speeds = f"{rows / seconds:,.0f} | {rows / cpu:,.0f}"
    print(f"| {case} | {rows:,} | {seconds:.2f} | {speeds} | {size / 1e6:.0f} | {peak:.0f} |", flush=True)


def main() -> None:
    """Fill a database for each size, and measure each case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--fill", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fill:
        fill(given.fill)
    elif given.case:
        measure(given.case)
    else:
        names = ("case", "rows", "s", "rows/s", "rows/CPU s", "MB written", "peak MB")
        print(f"| {' | '.join(names)} |\n{'| --- ' * len(names)}|", flush=True)
        for size in given.sizes:
            run(size, given.cases, postgresql=given.postgresql)


def run(size: int, cases: list[str], *, postgresql: bool) -> None:
    """Measure the cases at one size."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        environment: dict[str, Any] = {
            **os.environ,
            "WHETSTONE_VAR": folder,
            "WHETSTONE_LOG_LEVEL": "WARNING",
        }
        environment.pop("DATABASE_URL", None)
        if postgresql:
            environment["DATABASE_URL"] = stack.enter_context(servers.postgresql())
        command = [sys.executable, "-m", "benchmarks.data_out"]
        subprocess.run([*command, "--fill", str(size)], env=environment, check=True)
        for case in cases:
            subprocess.run([*command, "--case", case], env=environment, check=True)


if __name__ == "__main__":
    main()
