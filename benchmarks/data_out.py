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
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from primitives.garbage import keep_what_is_loaded
from tests import servers

CASES: dict[str, dict[str, str]] = {
    "jsonl": {},
    "jsonl, prompt, chosen and rejected alone": {"columns": "texts"},
    "parquet": {"format": "parquet"},
    "csv": {"format": "csv"},
    "openai": {"format": "openai"},
    "datasets, split in three": {"format": "datasets", "test": "10", "validation": "10"},
    "judgments": {"format": "judgments"},
    "comparisons": {"format": "comparisons"},
}
SIZES = (10_000, 100_000)
ORIGINALS = 2_000  # rows made one by one, of which the others are copies
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
    keep_what_is_loaded()  # as config/wsgi.py and config/celery.py do


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

    prompts = [Prompt(project=project) for _ in range(ORIGINALS)]
    for number, prompt in enumerate(prompts):
        prompt.set_content(f"{number}: {words(60)}")
    Prompt.objects.bulk_create(prompts)
    texts = [Completion(prompt=prompt, policy=policy, text=words(90)) for prompt in prompts for _ in "ab"]
    Completion.objects.bulk_create(texts)
    pairs = zip(prompts, texts[::2], texts[1::2], strict=True)
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
    copy_rows([Prompt, Completion, Claim, Comparison, Judgment], rows // ORIGINALS)


def copy_rows(models: Sequence[Any], times: int) -> None:
    """Copy the rows of these models inside the database, as they and their keys are numbered from 1 on."""
    from django.db import connection, transaction

    counts = {model: model.objects.count() for model in models}
    statements = [copy_statement(model, counts, connection.vendor) for model in models]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA synchronous=OFF")  # nothing here is worth a wait for the disk
        for copy in range(1, times):
            with transaction.atomic():
                for statement in statements:
                    cursor.execute(statement.format(copy=copy))
        cursor.execute("ANALYZE")


def copy_statement(model: Any, counts: Mapping[Any, int], vendor: str) -> str:
    """Return the statement that copies a model's first rows. Keys move, and what is unique is drawn or marked."""
    token = "lower(hex(randomblob(16)))" if vendor == "sqlite" else "gen_random_uuid()"
    values = {}
    for field in model._meta.concrete_fields:
        if shift := counts.get(model if field.primary_key else field.related_model):
            values[field.column] = f'"{field.column}" + {shift} * {{copy}}'
        elif field.column == "token":
            values[field.column] = token
        elif field.column == "digest":
            values[field.column] = "substr(digest, 1, 48) || '-{copy}'"
        elif not field.generated:
            values[field.column] = f'"{field.column}"'
    columns = ", ".join(f'"{column}"' for column in values)
    table, last = model._meta.db_table, counts[model]
    return (
        f"INSERT INTO {table} ({columns}) SELECT {', '.join(values.values())} FROM {table} WHERE id <= {last}"  # noqa: S608
    )


def measure(case: str) -> None:
    """Write a case to nowhere, as a task does, and print its rows, seconds and peak memory."""
    set_up()
    from annotate.exports.bundle import open_download
    from annotate.forms.exports import read_selection
    from annotate.models import Project
    from annotate.pairs.streams import hasty

    selection = read_selection(Project.objects.get(), CASES[case])
    started, worked = time.perf_counter(), time.process_time()
    found = open_download(selection)
    with hasty():
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
