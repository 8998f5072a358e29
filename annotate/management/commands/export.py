"""`python manage.py export PROJECT --output FILE`: pairs, comparisons or judgments, as files of any format."""

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, time
from getpass import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from annotate.errors import RefusalError
from annotate.exports import account, hub
from annotate.exports.bundle import is_folder, open_download, require_fit
from annotate.exports.formats import FORMATS, Source
from annotate.exports.selection import Selection
from annotate.forms.exports import ExportForm
from annotate.forms.filters import DayField
from annotate.models import Project
from annotate.pairs.filters import REASONS
from annotate.pairs.lines import write_file
from annotate.projects import trail
from primitives.garbage import keep_what_is_loaded

# The fields of the page's form that narrow the rows, those that say how judgments become pairs, and the others.
NARROWING = (
    "kind",
    "policy",
    "judged_by",
    "annotator",
    "batch",
    "round",
    "metadata",
    "flags",
    "strength",
    "agreement",
)
RULES = ("votes", "weights", "min_judgments", "smoothing", "too_fast", "gold", "ties")
SHAPES = ("texts", "columns", "validation", "test", "salt", "parts", "held_out")


class Command(BaseCommand):
    help = (
        "Write a project's preference pairs in TRL's preference format (prompt, chosen, rejected) with their "
        "provenance, as JSON Lines, or rows of another format. The file appears whole or not at all."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="slug of the project, as in its address")
        parser.add_argument(
            "--output",
            metavar="FILE",
            help="where to; - is standard output, a folder takes the files of a zip",
        )
        parser.add_argument(
            "--format",
            choices=list(FORMATS),
            default="jsonl",
            help="jsonl: one preference pair a line (default); judgments: one judgment a line, history too; …",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="count what would leave, and what stays by reason"
        )
        parser.add_argument("--json", action="store_true", help="with --dry-run: as one JSON object")
        self.add_filters(parser)
        self.add_shapes(parser)
        parser.add_argument(
            "--push",
            metavar="OWNER/NAME",
            help="push the pairs as a dataset to a hub; the token is HF_TOKEN, or asked",
        )
        hub.add_visibility(parser)

    def add_filters(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--snapshot", metavar="DIGEST", help="a snapshot's pairs; its digest or how it begins"
        )
        parser.add_argument(
            "--since", metavar="DATE", help="comparisons judged since then, such as 2026-03-01"
        )
        parser.add_argument("--until", metavar="DATE", help="without the judgments of later days")
        parser.add_argument(
            "--annotator",
            metavar="USERNAME",
            action="append",
            help="from this person's judgments alone; repeatable",
        )
        parser.add_argument("--judged-by", help="judgments given here (people), or those of files (imported)")
        parser.add_argument("--kind", help="comparisons of this kind")
        parser.add_argument("--policy", metavar="NAME", help="comparisons with a completion of this policy")
        parser.add_argument("--batch", metavar="NAME", help="comparisons of this batch")
        parser.add_argument("--round", metavar="N", help="comparisons of this round's samples")
        parser.add_argument("--metadata", metavar="KEY[=VALUE]", help="of the comparison or its prompt")
        parser.add_argument("--flags", help="comparisons with open flags: leave them out, or only them")
        parser.add_argument("--strength", metavar="X", help="pairs with at least this mean strength, 0 to 3")
        parser.add_argument(
            "--agreement", metavar="X", help="pairs on which this share of votes agrees, 0.5 to 1"
        )
        parser.add_argument(
            "--held-out",
            help="held-out prompts, which training never sees: leave them out (default for pairs), include, or only",
        )
        parser.add_argument("--ties", help="leave them out (default), include with the label 0.5, or only")
        parser.add_argument(
            "--votes",
            help="auto (default) counts them by reliability where that is known; equal; or reliability",
        )
        parser.add_argument("--weights", help="every pair equal (default), or by its judgments")
        parser.add_argument("--min-judgments", metavar="N", help="pairs with as many votes (default 1)")
        parser.add_argument("--smoothing", metavar="X", help="votes added to each side (default 0)")
        parser.add_argument("--too-fast", help="verdicts marked too fast: count (default), or leave out")
        parser.add_argument("--gold", help="gold comparisons: leave out (default), or include")

    def add_shapes(self, parser: ArgumentParser) -> None:
        parser.add_argument("--csv", action="store_true", help="CSV with a header instead of JSON Lines")
        parser.add_argument(
            "--spreadsheet",
            action="store_true",
            help="with --csv: an apostrophe before texts that a spreadsheet would run as a formula",
        )
        parser.add_argument(
            "--texts", help="plain prompts and chats: all as messages, all as text, or files for each"
        )
        parser.add_argument(
            "--columns", help="every column (all, default), or texts: prompt, chosen, rejected alone"
        )
        parser.add_argument("--validation", metavar="PERCENT", help="share of prompts for validation")
        parser.add_argument("--test", metavar="PERCENT", help="share of prompts for test")
        parser.add_argument("--salt", metavar="TEXT", help="of the split: another one draws other prompts")
        parser.add_argument("--parts", help="the parts of the split are a column (default), or files")

    def handle(self, *, output: str | None, format: str, **options: Any) -> None:
        keep_what_is_loaded()
        project = find_project(options["project"])
        if options["csv"]:
            format = {"jsonl": "csv", "judgments": "judgments_csv"}.get(format, format)
        self.refuse_idle(format, output, options)
        selection = self.selection(project, format, options)
        if options["dry_run"]:
            self.tell(selection, as_json=options["json"])
        elif options["push"]:
            self.push(selection, options)
        else:
            trail.record(trail.Verb.EXPORTED, None, project=project, target=f"{format} to {output}")
            self.write(selection, str(output))

    def selection(self, project: Project, format: str, options: dict[str, Any]) -> Selection:
        """Return the rows that the options choose. Raises CommandError, naming the option at fault."""
        names = (*NARROWING, *RULES, *SHAPES, "snapshot")
        given = {name: options[name] for name in names if options[name]}
        given |= {"format": format, "cells": "safe" if options["spreadsheet"] else "raw"}
        form = ExportForm(given, project=project)
        for field, errors in form.errors.items():
            raise CommandError(f"--{str(field).replace('_', '-')}: {errors[0]}")
        selection = form.selection()
        since, until = (moment(name, options[name]) for name in ("since", "until"))
        return replace(selection, filters=replace(selection.filters, since=since, until=until))

    def write(self, selection: Selection, output: str) -> None:
        try:
            if output != "-" and is_folder(selection) and (output.endswith("/") or Path(output).is_dir()):
                require_fit(selection)
                written = hub.write_folder(selection, Path(output))
            else:
                found = open_download(selection)
                written = found.written
                if output == "-":
                    with closing(found.chunks):
                        sys.stdout.buffer.writelines(found.chunks)
                        sys.stdout.flush()
                    return
                write_file(Path(output), found.chunks)
        except OSError as error:
            if output == "-" and isinstance(error, BrokenPipeError):
                raise
            raise CommandError(f"{output} cannot be written: {error.strerror}.") from error
        except RefusalError as refused:
            raise CommandError(f"--{refused.field}: {refused.message}") from refused
        what = str(selection.format.source).capitalize()
        self.stderr.write(f"{what} written to {output}: {written.total:,}")

    def push(self, selection: Selection, options: dict[str, Any]) -> None:
        """Push to a hub. The token is not an option: options of a command can be seen by everyone on the machine."""
        token = os.environ.get("HF_TOKEN", "") or (
            getpass("Token of the hub: ") if sys.stdin.isatty() else ""
        )
        repository = options["push"]
        try:
            address = hub.push(selection, repository, token, public=options["public"])
        except RefusalError as refused:
            hint = " (HF_TOKEN)" if refused.field == "token" else ""
            raise CommandError(f"{refused.message}{hint}") from refused
        trail.record(trail.Verb.EXPORTED, None, project=selection.project, target=f"{repository} on the hub")
        self.stderr.write(f"Pushed to {address}")

    def tell(self, selection: Selection, *, as_json: bool) -> None:
        """Print how many rows would leave, and what stays, by reason."""
        project, filters = selection.project, selection.filters
        found: dict[str, Any] = {"project": project.slug, "format": selection.format.name}
        if selection.format.source is Source.JUDGMENTS:
            found |= account.count_judgments(project, filters)
        else:
            found |= account.count(project, filters, selection.settings, selection.snapshot)
        found["texts"] = sorted(selection.types())
        if as_json:
            self.stdout.write(json.dumps(found, indent=2))
            return
        for line in report(found):
            self.stdout.write(line)

    def refuse_idle(self, format: str, output: str | None, options: dict[str, Any]) -> None:
        """Refuse options that would change nothing."""
        if not output and not options["dry_run"] and not options["push"]:
            raise CommandError("Say where to: --output FILE, --push OWNER/NAME, or --dry-run.")
        if options["spreadsheet"] and not format.endswith("csv"):
            raise CommandError("--spreadsheet is about CSV: give --csv too.")
        rules = [name.replace("_", "-") for name in RULES if options[name]]
        if FORMATS[format].source is Source.JUDGMENTS and (options["snapshot"] or rules):
            raise CommandError(f"--{[*rules, 'snapshot'][0]} is about pairs, not about judgments.")
        narrowing = [name for name in ("since", "until", *NARROWING) if options[name]]
        rules = [name for name in rules if name != "ties"]
        if options["snapshot"] and (given := [*narrowing, *rules]):
            raise CommandError(f"A snapshot is frozen: --{given[0]} does not narrow it, --held-out does.")


def report(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of an account for people."""
    if "judgment_rows" in found:
        yield f"{found['judgment_rows']:,} rows of judgments, {found['held_out_rows']:,} of them on held-out prompts"
        return
    if "everything" in found:
        yield f"{found['everything']:,} judged comparisons, {found['filtered']:,} of them left out by the filters"
    yield f"{found['judgments']:,} judgments, on {found['comparisons']:,} comparisons"
    for reason, number in found["excluded"].items():
        yield f"  - {number:,} {REASONS.get(reason, reason)}"
    yield f"= {found['pairs']:,} pairs: {found['train']:,} for training, {found['held_out']:,} held out"
    if len(found["texts"]) > 1:
        yield "Plain prompts and chats are mixed: --texts says how they leave together."


def find_project(slug: str) -> Project:
    project = Project.objects.filter(slug=slug).first()
    if project is None:
        slugs = Project.objects.order_by("slug").values_list("slug", flat=True)[:20]
        raise CommandError(f"There is no project “{slug}”; there is: {', '.join(slugs) or 'none yet'}.")
    return project


def moment(name: str, text: str | None) -> datetime | None:
    """Return a date, from its first second on, or a date and time; in the site's time zone unless it names one.

    `until` a date has all of that day in it.
    """
    if not text:
        return None
    try:
        day = parse_date(text)
        edge = time.max if name == "until" else time()
        found = datetime.combine(day, edge) if day else parse_datetime(text)
    except ValueError:
        found = None
    if found is None or not DayField.EARLIEST <= found.date() <= DayField.LATEST:
        raise CommandError(f"--{name} must be a date such as 2026-03-01, not “{text}”.")
    return found if timezone.is_aware(found) else timezone.make_aware(found)
