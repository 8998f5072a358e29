"""`python manage.py export PROJECT --output FILE`: preference pairs, or judgments, as JSON Lines or CSV."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from datetime import datetime, time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from annotate.models import Comparison, Policy, Project, Snapshot
from annotate.pairs import exports
from annotate.pairs.snapshots import PairSettings
from annotate.people.members import judged_or_members
from annotate.projects import trail
from annotate.reports.search import has_batch


class Counted:
    """Rows, counted as they pass."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self.rows, self.count = rows, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.rows:
            self.count += 1
            yield row


class Command(BaseCommand):
    help = (
        "Write a project's preference pairs in TRL's preference format (prompt, chosen, rejected) with their "
        "provenance, as JSON Lines. The file appears whole or not at all."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="slug of the project, as in its address")
        parser.add_argument("--output", required=True, metavar="FILE", help="where to; - is standard output")
        parser.add_argument(
            "--format",
            choices=["jsonl", "judgments"],
            default="jsonl",
            help="jsonl: one preference pair a line (default); judgments: one judgment a line, history too",
        )
        parser.add_argument("--csv", action="store_true", help="CSV with a header instead of JSON Lines")
        parser.add_argument(
            "--spreadsheet",
            action="store_true",
            help="with --csv: an apostrophe before texts that a spreadsheet would run as a formula",
        )
        parser.add_argument(
            "--snapshot", metavar="DIGEST", help="a snapshot's pairs; its digest or how it begins"
        )
        parser.add_argument(
            "--since", metavar="DATE", help="comparisons judged since then, such as 2026-03-01"
        )
        parser.add_argument("--annotator", metavar="USERNAME", help="from this person's judgments alone")
        parser.add_argument("--kind", choices=Comparison.Kind.values, help="comparisons of this kind")
        parser.add_argument("--policy", metavar="NAME", help="comparisons with a completion of this policy")
        parser.add_argument("--batch", default="", metavar="NAME", help="comparisons of this batch")
        parser.add_argument(
            "--min-judgments", type=int, default=1, metavar="N", help="pairs with as many votes"
        )
        parser.add_argument(
            "--held-out",
            choices=exports.HELD_OUT,
            help="held-out prompts, which training never sees: leave them out (default for pairs), include, or only",
        )

    def handle(self, *, output: str, format: str, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            known = (
                ", ".join(Project.objects.order_by("slug").values_list("slug", flat=True)[:20]) or "none yet"
            )
            raise CommandError(f"There is no project “{options['project']}”; there is: {known}.")
        self.refuse_idle(format, options)
        if format == "judgments":
            options["held_out"] = options["held_out"] or "include"
        filters = self.filters(project, options)
        trail.record(trail.Verb.EXPORTED, None, project=project, target=f"{format} to {output}")
        counted = Counted(self.rows(project, format, filters, options))
        columns = exports.JUDGMENT_COLUMNS if format == "judgments" else exports.PAIR_COLUMNS
        lines = (
            exports.csv_lines(counted, columns, for_spreadsheets=options["spreadsheet"])
            if options["csv"]
            else exports.lines(counted)
        )
        if output == "-":
            for line in lines:
                sys.stdout.buffer.write(line)
            sys.stdout.flush()
            return
        try:
            exports.write_file(Path(output), lines)
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error.strerror}.") from error
        what = "judgments" if format == "judgments" else "pairs"
        self.stderr.write(f"{counted.count} {what} written to {output}.")

    def rows(
        self, project: Project, format: str, filters: exports.Filters, options: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Return the rows that were asked for."""
        if format == "judgments":
            return exports.judgment_rows(project, filters)
        settings = PairSettings(include_gold=options["kind"] == Comparison.Kind.GOLD)
        return exports.export_rows(project, filters, settings, self.snapshot(project, options))

    def refuse_idle(self, format: str, options: dict[str, Any]) -> None:
        """Refuse options that would change nothing."""
        if not 1 <= options["min_judgments"] <= 50:
            raise CommandError("--min-judgments must be from 1 to 50.")
        if options["spreadsheet"] and not options["csv"]:
            raise CommandError("--spreadsheet is about CSV: give --csv too.")
        if format == "judgments" and (options["snapshot"] or options["min_judgments"] > 1):
            raise CommandError("--snapshot and --min-judgments are about pairs, not about judgments.")
        narrowing = ("since", "annotator", "kind", "policy", "batch")
        if options["snapshot"] and (given := [name for name in narrowing if options[name]]):
            raise CommandError(f"A snapshot is frozen: --{given[0]} does not narrow it, --held-out does.")

    def snapshot(self, project: Project, options: dict[str, Any]) -> Snapshot | None:
        if not options["snapshot"]:
            return None
        found = exports.find_snapshot(project, options["snapshot"])
        if found is None:
            raise CommandError(
                f"Project “{project.slug}” has no one snapshot that begins with {options['snapshot']}."
            )
        return found

    def filters(self, project: Project, options: dict[str, Any]) -> exports.Filters:
        annotator = policy = None
        if options["annotator"]:
            people = judged_or_members(project).filter(username=options["annotator"])
            annotator = people.values_list("pk", flat=True).first()
            if annotator is None:
                raise CommandError(
                    f"“{options['annotator']}” is not, and was not, an annotator of project “{project.slug}”."
                )
        if options["policy"]:
            named = Policy.objects.filter(project=project, name=options["policy"])
            policy = named.values_list("pk", flat=True).first()
            if policy is None:
                raise CommandError(f"Project “{project.slug}” has no policy “{options['policy']}”.")
        if options["batch"] and not has_batch(project, options["batch"]):
            raise CommandError(f"Project “{project.slug}” has no batch “{options['batch']}”.")
        return exports.Filters(
            since=moment(options["since"]) if options["since"] else None,
            annotator=annotator,
            kind=options["kind"] or "",
            policy=policy,
            batch=options["batch"],
            min_judgments=options["min_judgments"],
            held_out=exports.HELD_OUT[options["held_out"] or "leave"],
        )


def moment(text: str) -> datetime:
    """Return a date, from its first second on, or a date and time; in the site's time zone unless it names one."""
    try:
        day = parse_date(text)
        found = datetime.combine(day, time()) if day else parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise CommandError(f"--since must be a date such as 2026-03-01, not “{text}”.")
    return found if timezone.is_aware(found) else timezone.make_aware(found)
