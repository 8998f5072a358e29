"""`python manage.py export PROJECT --output FILE`: preference pairs, or judgments, as JSON Lines or CSV."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from annotate.forms.exports import ExportForm
from annotate.models import Project, Snapshot
from annotate.pairs import exports
from annotate.projects import trail

# The fields of the page's form that narrow the rows, and those that say how judgments become pairs.
NARROWING = ("kind", "policy", "annotator", "batch")
RULES = ("votes", "weights", "min_judgments", "smoothing", "too_fast", "gold")


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
        parser.add_argument("--kind", help="comparisons of this kind")
        parser.add_argument("--policy", metavar="NAME", help="comparisons with a completion of this policy")
        parser.add_argument("--batch", metavar="NAME", help="comparisons of this batch")
        parser.add_argument(
            "--held-out",
            help="held-out prompts, which training never sees: leave them out (default for pairs), include, or only",
        )
        parser.add_argument("--votes", help="every vote equal (default), or by reliability")
        parser.add_argument("--weights", help="every pair equal (default), or by its judgments")
        parser.add_argument("--min-judgments", metavar="N", help="pairs with as many votes (default 1)")
        parser.add_argument("--smoothing", metavar="X", help="votes added to each side (default 0)")
        parser.add_argument("--too-fast", help="verdicts marked too fast: count (default), or leave out")
        parser.add_argument("--gold", help="gold comparisons: leave out (default), or include")

    def handle(self, *, output: str, format: str, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            known = (
                ", ".join(Project.objects.order_by("slug").values_list("slug", flat=True)[:20]) or "none yet"
            )
            raise CommandError(f"There is no project “{options['project']}”; there is: {known}.")
        self.refuse_idle(format, options)
        form = self.form(project, options)
        filters = form.filters(of_judgments=format == "judgments")
        if options["since"]:
            filters = replace(filters, since=moment(options["since"]))
        trail.record(trail.Verb.EXPORTED, None, project=project, target=f"{format} to {output}")
        counted = Counted(self.rows(project, format, form, filters, options))
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
        what = "Judgments" if format == "judgments" else "Pairs"
        self.stderr.write(f"{what} written to {output}: {counted.count:,}")

    def rows(
        self,
        project: Project,
        format: str,
        form: ExportForm,
        filters: exports.Filters,
        options: dict[str, Any],
    ) -> Iterator[dict[str, Any]]:
        """Return the rows that were asked for."""
        if format == "judgments":
            return exports.judgment_rows(project, filters)
        return exports.export_rows(project, filters, form.settings(), self.snapshot(project, options))

    def form(self, project: Project, options: dict[str, Any]) -> ExportForm:
        """Return the page's form, filled in by the options. Raises CommandError, naming the option at fault."""
        names = (*NARROWING, *RULES, "held_out")
        form = ExportForm({name: options[name] for name in names if options[name]}, project=project)
        for field, errors in form.errors.items():
            raise CommandError(f"--{str(field).replace('_', '-')}: {errors[0]}")
        return form

    def refuse_idle(self, format: str, options: dict[str, Any]) -> None:
        """Refuse options that would change nothing."""
        if options["spreadsheet"] and not options["csv"]:
            raise CommandError("--spreadsheet is about CSV: give --csv too.")
        rules = [name.replace("_", "-") for name in RULES if options[name]]
        if format == "judgments" and (options["snapshot"] or rules):
            raise CommandError(f"--{[*rules, 'snapshot'][0]} is about pairs, not about judgments.")
        narrowing = [name for name in ("since", *NARROWING) if options[name]]
        if options["snapshot"] and (given := [*narrowing, *rules]):
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
