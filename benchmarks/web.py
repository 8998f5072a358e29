"""`make bench-web`: annotators under load, against the production server.

Everything is on this machine: gunicorn, PostgreSQL and the load generator share its cores. It prints one row per
case. Afterwards it checks that each verdict is stored once and that no comparison was handed to too many. It exits
with 1 if anything was lost, doubled, altered, over-assigned or answered with an error.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import report
from tests import servers

SIZES = (1_000, 100_000, 1_000_000)
NEEDED = 8  # judgments a comparison: the smallest pool then outlasts its cases
DURABLE = {"shared_buffers": "512MB", "max_connections": "100"}  # fsync stays on: a verdict is on disk
HEADER = "| case | cycles | cycles/s | p50 ms | p95 ms | p99 ms | queries/cycle | errors | faults |"


@contextmanager
def site(folder: Path, workers: int, threads: int) -> Iterator[int]:
    """Run the production server on a port of its own, on the database that DATABASE_URL names."""
    from training.demo import supervisor

    port = servers.free_port()
    service = supervisor.web_server("127.0.0.1", port, folder / "web.log", workers=workers, threads=threads)
    with service.log.open("w") as log:
        server = subprocess.Popen(service.command, stdout=log, stderr=log)
    try:
        while not supervisor.is_answering(f"http://127.0.0.1:{port}/login/"):
            if server.poll() is not None:
                raise SystemExit(f"The web server ended:\n{service.log.read_text()}")
        yield port
    finally:
        server.terminate()
        server.wait(20)


def queries_per_cycle(slug: str, cookie: str) -> int:
    """Count the SQL statements of a verdict and the next comparison, without BEGIN and COMMIT."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from benchmarks.web_load import find

    client = Client(headers={"host": "localhost"})
    client.cookies["sessionid"] = cookie
    path, fragment = f"/p/{slug}/judge/", {"HX-Request": "true"}
    found = find(client.get(path).content.decode())
    ahead = find(client.post(path + "ahead/", headers=fragment).content.decode())
    if not found or not ahead:
        raise SystemExit("The pool is too small: a further annotator finds nothing to judge.")
    form = {"token": found, "verdict": "tie", "seconds": "3", "shown": ahead}
    with CaptureQueriesContext(connection) as queries:
        client.post(path, form, headers=fragment)
    return sum(query["sql"].split()[0] not in {"BEGIN", "COMMIT"} for query in queries)


def page_weight(port: int, slug: str, cookie: str) -> tuple[int, int]:
    """Bytes over the wire, and requests, of the first judging page with its scripts and stylesheet."""
    import urllib.request

    def fetch(path: str, accept: str) -> tuple[int, bytes]:
        headers = {"Cookie": f"sessionid={cookie}", "Accept-Encoding": accept}
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        ) as answer:
            body = answer.read()
            return len(body) + len(str(answer.headers)), body

    page = f"/p/{slug}/judge/"
    assets = set(
        re.findall(rb'<(?:script|link)[^>]+(?:src|href)="(/static/[^"]+)"', fetch(page, "identity")[1])
    )
    weights = [fetch(path.decode(), "gzip, br")[0] for path in assets]
    return fetch(page, "gzip, br")[0] + sum(weights), 1 + len(weights)


class Cases:
    """The pools of one database, and what was sent to each."""

    def __init__(self, sizes: list[int], port: int) -> None:
        from benchmarks import web_pool

        self.port = port
        self.pools = {size: web_pool.make_pool(size, NEEDED) for size in sizes}
        self.sent: dict[int, dict[str, tuple[int, str]]] = {size: {} for size in sizes}
        self.clean = True
        web_pool.settle_database()

    def run(
        self, name: str, size: int, people: int, *, cycles: int, seconds: float, pause: float = 0.0
    ) -> Any:
        """One case: print its row, check what is stored, return the load."""
        from benchmarks import web_load, web_pool

        project, sent = self.pools[size], self.sent[size]
        annotators = web_pool.sign_in(project, people, "annotator")
        load = web_load.run(self.port, project.slug, annotators, cycles=cycles, seconds=seconds, pause=pause)
        sent |= load.sent
        found = web_pool.faults(project, sent)
        if load.errors:  # a connection that broke can hide a verdict that was stored
            del found["never sent"]
        faults, errors = sum(found.values()), sum(load.errors.values())
        probe = web_pool.sign_in(project, 1, "probe")[0]
        figures = (load.rate, *(load.quantile(share) for share in (0.5, 0.95, 0.99)))
        shown = " | ".join(f"{figure:.1f}" for figure in figures)
        queries = queries_per_cycle(project.slug, probe.cookie)
        for judgment in project.judgments.filter(annotator=probe.pk):
            sent[str(judgment.token)] = (probe.pk, judgment.verdict)
        print(f"| {name} | {len(load.latencies)} | {shown} | {queries} | {errors} | {faults} |", flush=True)
        if errors or faults:
            self.clean = False
            print(f"  {dict(load.errors)} {found}")
        return load


def measure(options: argparse.Namespace, folder: Path) -> bool:
    """Run the cases of one database, which DATABASE_URL names. True if nothing went wrong."""
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    sizes = [int(size) for size in options.sizes.split(",")]
    with site(folder, options.workers, options.threads) as port:
        if options.database == "SQLite":
            cases = Cases(sizes[:1], port)
            cases.run(f"SQLite, {sizes[0]:,}, 4 annotators", sizes[0], 4, cycles=options.cycles, seconds=120)
            return cases.clean
        cases = Cases(sizes, port)
        typical: dict[int, list[float]] = {size: [] for size in sizes}
        cases.run("warm-up, 4 annotators", sizes[0], 4, cycles=200, seconds=20)
        for _ in range(options.rounds):  # sizes alternate, so that a noisy minute hits them all
            for size in sizes:
                load = cases.run(
                    f"PostgreSQL, {size:,}, 16 annotators", size, 16, cycles=options.cycles, seconds=120
                )
                typical[size].append(load.quantile(0.5))
        middle = sizes[len(sizes) // 2]
        name = f"PostgreSQL, {middle:,}, 200 annotators, 4 s pause"
        cases.run(name, middle, 200, cycles=10**9, seconds=options.paced, pause=4.0)
        from benchmarks.web_pool import sign_in

        weight, requests = page_weight(
            port, cases.pools[middle].slug, sign_in(cases.pools[middle], 1, "new")[0].cookie
        )
    ratio = statistics.median(typical[sizes[-1]]) / statistics.median(typical[sizes[0]])
    print(f"\nThe p50 at {sizes[-1]:,} comparisons is {ratio:.2f} times the p50 at {sizes[0]:,}.")
    print(f"First judging page: {weight / 1000:.1f} kB over the wire in {requests} requests.")
    return cases.clean


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="comparisons in the pools")
    parser.add_argument("--cycles", type=int, default=3000, help="verdicts of each case without pauses")
    parser.add_argument("--rounds", type=int, default=2, help="times that each size is measured, in turn")
    parser.add_argument("--paced", type=float, default=40, help="seconds of the case with pauses")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--database", choices=("PostgreSQL", "SQLite"), help="one of the two; both if left out"
    )
    parser.add_argument("--publish", action="store_true", help="write the table to benchmarks/README.md")
    options = parser.parse_args()
    if folder := os.environ.get("WHETSTONE_BENCH"):  # the child that measures one database
        return 0 if measure(options, Path(folder)) else 1
    begun = (
        f"{report.today()}, {report.hardware()}, shared by server, database and load generator; gunicorn with "
        f"{options.workers} processes of {options.threads} threads; fsync on.\n\n"
        f"{HEADER}\n{re.sub(r'[^|]+', ' --- ', HEADER)}\n"
    )
    print(begun, end="", flush=True)
    wanted = [options.database] if options.database else ["SQLite", "PostgreSQL"]
    code, said = 0, begun
    for database in wanted:
        ended, rows = run_on(database)
        code, said = max(code, ended), said + rows
    if options.publish and code == 0:
        report.publish("web", said)
    return code


def run_on(database: str) -> tuple[int, str]:
    """Measure one database in a process of its own, since Django is set up once in a process.

    Returns its exit code and what it printed.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="whetstone-bench-"))
        url = f"sqlite:///{folder}/db.sqlite3"
        if database == "PostgreSQL":
            url = stack.enter_context(servers.postgresql(DURABLE))
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DATABASE_URL": url,
            "WHETSTONE_VAR": folder,
            "WHETSTONE_BENCH": folder,
        }
        command = [sys.executable, "-m", "benchmarks.web", *sys.argv[1:], "--database", database]
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        said = ""
        for line in child.stdout:
            print(line, end="", flush=True)
            said += line
        return child.wait(), said


if __name__ == "__main__":
    sys.exit(main())
