"""`make bench-data`: rows a second and peak memory of imports, JSON Lines and Parquet, on SQLite and PostgreSQL.

Each case is a process of its own, with a database of its own: it turns the file into lines, checks it whole, and
writes it, as `manage.py import_file` does. The memory and the CPU time are
the process's, without the database server's.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests import servers

SIZES = (10_000, 100_000)
LARGE = 1_000_000
FORMATS = ("jsonl", "parquet")
DATABASES = ("sqlite", "postgresql")
HEADER = "| database | format | rows | becomes | check, rows/s | write, rows/s | both, rows/s | CPU, µs/row | peak MB |"
WORDS = "the quick brown fox jumps over a lazy dog while seven wizards mix odd potions near quiet harbours".split()  # noqa: SIM905


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Yield pairs with a preference: prompts of 60 words, completions of 40."""
    for number in range(count):
        turned = WORDS[number % 17 :] + WORDS[: number % 17]
        prompt = f"Question {number}: " + " ".join(turned * 4)
        first, second = (
            f"Answer {number}. " + " ".join(turned * 2),
            f"No. {number} " + " ".join(turned[::-1] * 2),
        )
        yield {"prompt": prompt, "chosen": first, "rejected": second, "source": "bench"}


def write_file(folder: Path, format: str, count: int) -> Path:
    """Write the rows as a file, and return its path."""
    path = folder / f"rows-{count}.{format}"
    if path.exists():
        return path
    if format == "jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows(count))
        return path
    import pyarrow as pa
    import pyarrow.parquet as pq

    batch: list[dict[str, Any]] = []
    writer = None
    for number, row in enumerate(rows(count), 1):
        batch.append(row)
        if len(batch) == 10_000 or number == count:
            table = pa.Table.from_pylist(batch)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            batch = []
    if writer:
        writer.close()
    return path


def measure(path: Path, becomes: str) -> dict[str, float]:
    """Import a file in this process, and return its times."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    from annotate.imports.files import reception, whole
    from annotate.models import Policy, Project
    from annotate.sources import lines

    call_command("migrate", verbosity=0)
    project = Project.objects.create(slug="bench", name="Bench")
    project.current_policy = Policy.objects.create(
        project=project, name="starter", kind=Policy.Kind.BASE, base_model="starter"
    )
    project.save()
    begun, spent = time.perf_counter(), time.process_time()
    with (
        path.open("rb") as file,
        lines.as_lines(file, path.name, settings.IMPORT_LIMIT) as found,
        whole.spooled() as spool,
    ):
        options, _records = reception.inspect(found)
        options = reception.replace(options, becomes=becomes)
        report = whole.check_file(project, found.file, found.format, options, spool)
        checked = time.perf_counter()
        made = whole.write_file(project, spool, path.name)
        written = time.perf_counter()
    assert report.check.counts["rows"] == made.counts["prompts"], (report.check.counts, made.counts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "check": checked - begun,
        "write": written - checked,
        "cpu": time.process_time() - spent,
        "peak": peak,
    }


def case(folder: Path, database: str, format: str, count: int, becomes: str) -> str:
    """Return a row of the table."""
    path = write_file(folder, format, count)
    with ExitStack() as stack:
        var = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        environment = os.environ | {"WHETSTONE_VAR": str(var), "DJANGO_SETTINGS_MODULE": "config.settings"}
        environment.pop("DATABASE_URL", None)
        if database == "postgresql":
            environment["DATABASE_URL"] = stack.enter_context(servers.postgresql())
        command = [sys.executable, "-m", "benchmarks.data", "--measure", str(path), "--as", becomes]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    both = found["check"] + found["write"]
    speeds = " | ".join(f"{count / seconds:,.0f}" for seconds in (found["check"], found["write"], both))
    cost = f"{found['cpu'] / count * 1e6:.0f} | {found['peak']:.0f}"
    return f"| {database} | {format} | {count:,} | {becomes} | {speeds} | {cost} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=SIZES)
    parser.add_argument("--large", action="store_true", help=f"{LARGE:,} rows too")
    parser.add_argument("--databases", nargs="*", choices=DATABASES, default=DATABASES)
    parser.add_argument("--formats", nargs="*", choices=FORMATS, default=FORMATS)
    parser.add_argument("--as", dest="becomes", nargs="*", default=["prompts", "comparisons", "judged"])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.becomes[0])))
        return
    print(f"{HEADER}\n| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for count in (*given.rows, *([LARGE] if given.large else [])):
            for database in given.databases:
                for format in given.formats:
                    for becomes in given.becomes:
                        print(case(Path(folder), database, format, count, becomes), flush=True)


if __name__ == "__main__":
    main()
