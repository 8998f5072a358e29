"""`make bench-data`: rows a second and peak memory of imports, JSON Lines and Parquet, on SQLite and PostgreSQL.

Each case is a process of its own, with a database of its own, and does what `manage.py import_file` does. CPU seconds
are of its Python, and of all of PostgreSQL's processes. On a machine with other work they say more than the clock.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests import servers

SIZES = (10_000, 100_000)
LARGE = 1_000_000
FORMATS = ("jsonl", "parquet")
DATABASES = ("sqlite", "postgresql")
STEP = 100_000  # rows, whose costs are told apart
COLUMNS = ("database", "format", "rows", "becomes", "rows/s", "Python, µs/row", "database, µs/row",
           "rows per CPU second", "by 100,000 rows", "peak MB")  # fmt: skip
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


def measure(path: Path, becomes: str) -> dict[str, Any]:
    """Import a file in this process, and return its costs: seconds of the clock, of Python and of the database."""
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
    costs = [spend()]

    def note(rows: int) -> None:
        if rows >= STEP * len(costs):
            costs.append(spend())

    with (
        path.open("rb") as file,
        lines.as_lines(file, path.name, settings.IMPORT_LIMIT) as found,
    ):
        options, _records = reception.inspect(found)
        options = reception.replace(options, becomes=becomes)
        report = whole.import_file(project, found.file, found.format, options, path.name, told=note)
    end = spend()
    made = report.outcome.counts
    assert report.check.counts["rows"] == made["prompts"], (report.check.counts, made)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    clock, python, database = (last - first for last, first in zip(end, costs[0], strict=True))
    steps = [sum(after[1:]) - sum(before[1:]) for before, after in pairwise(costs)]
    return {"clock": clock, "python": python, "database": database, "steps": steps, "peak": peak}


def spend() -> tuple[float, float, float]:
    """Return the time, and the CPU seconds so far of this process and of all processes of its PostgreSQL."""
    import psutil
    from django.db import connection

    database = 0.0
    if connection.vendor == "postgresql":
        connection.ensure_connection()
        server = psutil.Process(connection.connection.info.backend_pid).parent()
        processes = [server, *server.children()]
        database = sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())
        database += sum(server.cpu_times()[2:4])  # of those that ended, such as of autovacuum
    return time.perf_counter(), time.process_time(), database


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
    costs = (found["python"], found["database"])
    steps = ", ".join(f"{STEP / seconds:,.0f}" for seconds in found["steps"])
    cells = [database, format, f"{count:,}", becomes, f"{count / found['clock']:,.0f}"]
    cells += [f"{cost / count * 1e6:.0f}" for cost in costs]
    return row([*cells, f"{count / sum(costs):,.0f}", steps, f"{found['peak']:.0f}"])


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


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
    print(f"{row(COLUMNS)}\n{row('---' for _ in COLUMNS)}")
    with tempfile.TemporaryDirectory() as folder:
        for count in (*given.rows, *([LARGE] if given.large else [])):
            for database in given.databases:
                for format in given.formats:
                    for becomes in given.becomes:
                        print(case(Path(folder), database, format, count, becomes), flush=True)


if __name__ == "__main__":
    main()
