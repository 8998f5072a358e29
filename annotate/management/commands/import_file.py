"""`python manage.py import_file PROJECT FILE`: any file of prompts or preferences, recognised or mapped by hand."""

import json
import shlex
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO, TextIO, cast

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from annotate.imports.expansion import BECOMES
from annotate.imports.files import reception, whole
from annotate.imports.files.options import MAPPED, UNKNOWN, Options
from annotate.imports.files.refused import refused_record
from annotate.imports.files.rows import Row
from annotate.models import Project
from annotate.sources import encodings, lines, remote
from annotate.sources.errors import FileError
from annotate.sources.mappings import mapping, proposals

SECONDS = 3_600  # for a file at an address
SHOWN = 10  # reasons, and columns
TOLD = 100_000  # rows between two words of how far it is
KINDS = {"prompts": "prompts", "pairs": "comparisons", "judged": "judged", "gold": "gold"}


class Command(BaseCommand):
    help = (
        "Bring a file into a project: prompts, comparisons to judge, judged pairs or gold. JSON Lines, JSON, CSV, "
        "Parquet, XLSX and text, also as .gz, .zst or .zip. Its format is recognised, or its columns are mapped with "
        "--map. Rows that cannot be used are left out and counted. Running it again picks up where it left off."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="slug of the project, as in its address")
        parser.add_argument(
            "file",
            help="the file; - is standard input; hf://datasets/OWNER/NAME or https://… if the site allows it",
        )
        parser.add_argument("--as", dest="becomes", choices=BECOMES, help="what the rows become")
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            metavar="KEY=COLUMN",
            help=f"a column's meaning, once for each: {', '.join(mapping.ROLES)}; "
            "also a=VALUE, b=VALUE, tie=VALUE, both_bad=VALUE for values of the verdict",
        )
        parser.add_argument(
            "--format", choices=("jsonl", "json", "csv", "txt"), help="default: as the file says"
        )
        parser.add_argument("--encoding", help="of text; default: found out")
        parser.add_argument("--sheet", default="", help="of a workbook; default: the first one with rows")
        parser.add_argument(
            "--pairs",
            choices=("all", "best"),
            default="all",
            help="of several completions: all pairs, or best against the rest",
        )
        parser.add_argument(
            "--without-losses", action="store_true", help="take rows without what cannot be taken"
        )
        parser.add_argument("--empty", action="store_true", help="take empty completions")
        parser.add_argument("--update", action="store_true", help="change what is known and differs")
        parser.add_argument(
            "--bad", metavar="FILE", help="write the rows that are left out, with reasons, as JSON Lines"
        )
        parser.add_argument("--dry-run", action="store_true", help="check and count, and import nothing")
        parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - is standard output")

    def handle(self, *, file: str, becomes: str | None, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project “{options['project']}”.")
        encoding = encodings.find_codec(options["encoding"]) if options["encoding"] else ""
        if options["encoding"] and not encoding:
            raise CommandError(f"There is no encoding “{options['encoding']}”.")
        try:
            with (
                opened(file) as (source, name),
                lines.as_lines(
                    source,
                    name,
                    settings.IMPORT_LIMIT,
                    container=options["format"] or "",
                    encoding=encoding,
                    sheet=options["sheet"],
                ) as found,
            ):
                self.bring_in(project, found, file, self.choose(found, becomes, options), options)
        except OSError as error:
            raise CommandError(
                f"{error.filename or file} cannot be read or written: {error.strerror}."
            ) from error
        except FileError as error:
            none = {"format": None, "becomes": None, "rows": 0, "error": error.message}
            problems = self.report(none, options)
            raise CommandError("\n".join([*problems, error.message, "Nothing was imported."])) from error

    def choose(self, found: lines.Lines, becomes: str | None, given: dict[str, Any]) -> Options:
        """Return how the file is read. Raises CommandError if that is not known."""
        options, _records = reception.inspect(found)
        if found.doubt and not given["dry_run"]:
            raise FileError(unsure(found))
        options = replace(
            options,
            pairs=given["pairs"],
            without_losses=given["without_losses"],
            empty=given["empty"],
        )
        if given["map"]:
            columns, meanings = read_map(given["map"], options.columns)
            options = replace(options, format=MAPPED, columns_mapped=columns, meanings=meanings)
            by_hand = mapping.Mapping(columns, meanings)
            if problem := by_hand.problem():
                raise CommandError(f"{problem}\nNothing was imported.")
            options = replace(options, becomes=by_hand.becomes)
        elif options.format == UNKNOWN:
            sentence = unknown(options)
            rows = sum(1 for _record in options.reader(found.file, found.format))
            problems = self.report(
                {**described(options), "becomes": None, "rows": rows, "taken": 0, "left_out": {sentence: rows},
                 "annotators": 0, "columns": list(options.columns), "error": sentence},
                given,
            )  # fmt: skip
            raise CommandError("\n".join([*problems, sentence, "Nothing was imported."]))
        return replace(options, becomes=becomes) if becomes else options

    def bring_in(
        self, project: Project, found: lines.Lines, name: str, options: Options, given: dict[str, Any]
    ) -> None:
        """Write what of the file can be used, unless this is a dry run."""
        file = found.file, found.format
        stopped = ""
        with RefusedRows(given["bad"], options) as refused:
            try:
                if given["dry_run"]:
                    report = whole.check_file(project, *file, options, refuse=refused.add)
                else:
                    ways: dict[str, Any] = {"refuse": refused.add, "told": self.progress()}
                    report = whole.import_file(project, *file, options, name, update=given["update"], **ways)
            except whole.ImportStoppedError as error:
                report, stopped = error.report, error.message
        told = summary(options, report) | ({"error": stopped} if stopped else {})
        problems = [*refused.problems, *self.report(told, given, options, report)]
        if stopped:
            has_begun = report.outcome.changes_something
            problems += [
                stopped,
                "What was imported before is kept." if has_begun else "Nothing was imported.",
            ]
        elif not told["taken"]:
            reasons = [options.place(*error) for error in report.check.errors] or [str(report.nothing)]
            problems += [*reasons[:SHOWN], "Nothing was imported."]
        if problems:
            raise CommandError("\n".join(problems))

    def progress(self) -> Callable[[int], None]:
        """Return a function that is called with the rows read so far, and tells them now and then."""
        last = 0

        def tell(rows: int) -> None:
            nonlocal last
            if rows - last >= TOLD:
                last = rows
                self.stderr.write(f"{rows:,} rows are read.", self.style.NOTICE)

        return tell

    def report(
        self,
        found: dict[str, Any],
        given: dict[str, Any],
        options: Options | None = None,
        report: whole.Report | None = None,
    ) -> list[str]:
        """Write the report as JSON, if asked for, and for people if nothing else goes to the standard output.

        Returns what went wrong with it.
        """
        text = json.dumps(found, ensure_ascii=False, indent=1) + "\n"
        if given["json"] == "-":
            self.stdout.write(text, ending="")
            return []
        if options is not None and report is not None:
            self.tell(found, options, report, given)
        try:
            if given["json"]:
                Path(given["json"]).write_text(text, encoding="utf-8")
        except OSError as error:
            return [not_written(given["json"], error)]
        return []

    def tell(
        self, found: dict[str, Any], options: Options, report: whole.Report, given: dict[str, Any]
    ) -> None:
        """Print what was found and what became of it."""
        packed = f", packed as .{options.compression}" if options.compression else ""
        encoding = f", {options.encoding}" if options.encoding else ""
        several = len(options.sheets) > 1
        sheet = f", sheet “{options.sheet}”, one of {len(options.sheets)}" if several else ""
        self.stdout.write(
            f"{found['label']} ({options.container}{packed}{encoding}{sheet}): {found['rows']:,} rows."
        )
        counts = ", ".join(f"{count:,} {name}" for name, count in found["found"].items())
        self.stdout.write(f"Becomes {found['becomes']}: {counts or 'nothing'}.")
        if found["annotators"]:
            self.stdout.write(f"Annotators: {found['annotators']:,}.")
        for name, count in found["unused"].items():
            self.stdout.write(f"Not taken of these rows: {count:,} {name}.")
        if wrong := found["rows"] - found["taken"]:
            self.stdout.write(
                f"{found['taken']:,} of {found['rows']:,} rows can be imported; {wrong:,} cannot:"
            )
            for place, sentence in report.check.errors[:SHOWN]:
                self.stdout.write(f"  {options.place(place, sentence)}")
            if wrong > SHOWN:
                self.stdout.write(
                    f"  and {wrong - SHOWN:,} more" + ("." if given["bad"] else "; --bad FILE lists all.")
                )
        if options.doubt:
            self.stdout.write("The encoding is unsure: look at the letters, and give it with --encoding.")
        if given["dry_run"]:
            self.stdout.write("This was a dry run: nothing was imported.")
            return
        made = ", ".join(f"{count:,} {name}" for name, count in found["made"].items() if count)
        self.stdout.write(f"Imported: {made or 'nothing'}.")
        for place, sentence in report.outcome.remarks[:SHOWN]:
            self.stdout.write(f"  {options.place(place, sentence)}")
        if report.outcome.counts["different"] and not given["update"]:
            self.stdout.write("Rows that differ were left as they are: --update takes what the file says.")


def unsure(found: lines.Lines) -> str:
    """Return what to do with a file whose encoding is a guess, with its first lines by that."""
    shown = "\n".join(f"  {line}" for line in lines.sample(found.file))
    return (
        f"The encoding is unsure: it looks like {encodings.name_encoding(found.encoding)}. These are lines of it:\n"
        f"{shown}\nIf their letters are right, give --encoding {found.encoding}. If not, give the right one."
    )


def described(options: Options) -> dict[str, Any]:
    """Return how a file was read, for the report."""
    return {
        "format": options.format or None,
        "label": options.label,
        "container": options.container,
        "compression": options.compression or None,
        "encoding": options.encoding or None,
        "encoding_unsure": bool(options.doubt),
        "sheet": options.sheet or None,
        "separator": options.separator if options.container == "csv" else None,
    }


def summary(options: Options, report: whole.Report) -> dict[str, Any]:
    """Return the report."""
    check, known = report.check, report.check.outcome.counts + report.outcome.counts
    kinds = [KINDS.get(str(kind), str(kind)) for kind, count in check.found.most_common() if count]
    becomes = options.becomes or ", ".join(kinds) or "prompts"
    left_out = dict(check.reasons)
    if others := check.counts["wrong"] - sum(left_out.values()):
        left_out["other reasons"] = others
    return {
        **described(options),
        "becomes": becomes,
        "rows": check.counts["rows"],
        "taken": check.counts["rows"] - check.counts["wrong"],
        "left_out": left_out,
        "annotators": len(check.annotators),
        "found": dict(check.found),
        "unused": dict(check.unused),
        "known": {name: known[name] for name in ("duplicates", "different", "shared_ids")},
        "made": dict(report.outcome.counts),
    }


def unknown(options: Options) -> str:
    """Return the sentence about a file whose format is not known."""
    advice = f"Its format is not recognised. {options.advice}".strip()
    if proposals.advise(options.columns):
        return advice
    columns = ", ".join(f"“{name}”" for name in options.columns[:SHOWN])
    proposed = {"prompt": "COLUMN", **options.proposal}
    by_hand = " ".join(f"--map {shlex.quote(f'{role}={column}')}" for role, column in proposed.items())
    return (
        f"{advice} It has the columns {columns}. Say what they are, for instance: {by_hand}. "
        f"The keys are {', '.join(mapping.ROLES)}."
    )


def read_map(given: list[str], columns: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Return columns by role, and meanings by value. Raises CommandError."""
    roles, meanings = {}, {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or key not in {*mapping.ROLES, *mapping.MEANINGS}:
            keys = ", ".join((*mapping.ROLES, *mapping.MEANINGS))
            raise CommandError(f"--map {one}: write KEY=COLUMN, where KEY is one of {keys}.")
        if key in mapping.MEANINGS:
            meanings[value] = key
        elif value not in columns:
            known = ", ".join(f"“{name}”" for name in columns[:40])
            raise CommandError(f"--map {one}: there is no column “{value}”. The columns are {known}.")
        else:
            roles[key] = value
    return roles, meanings


@contextmanager
def opened(name: str) -> Iterator[tuple[BinaryIO, str]]:
    """Yield a file that can be read twice, and its name; - is standard input. Raises FileError."""
    with ExitStack() as stack:
        if remote.is_address(name):
            yield stack.enter_context(
                remote.fetched(name, settings.IMPORT_HOSTS, settings.IMPORT_LIMIT, SECONDS)
            )
            return
        if name != "-":
            yield stack.enter_context(Path(name).open("rb")), name
            return
        copy = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile()))
        copyfileobj(sys.stdin.buffer, copy)
        copy.seek(0)
        yield copy, name


class RefusedRows:
    """The file that rows which cannot be used are written to, if it has a name.

    An error of it is kept for the end: the rows that can be used are imported all the same.
    """

    def __init__(self, name: str | None, options: Options) -> None:
        self.name, self.options = name or "", options
        self.problems: list[str] = []
        self._file: TextIO | None = None

    def __enter__(self) -> "RefusedRows":
        if self.name:
            try:
                self._file = Path(self.name).open("w", encoding="utf-8")
            except OSError as error:
                raise CommandError(f"{not_written(self.name, error)}\nNothing was imported.") from error
        return self

    def __exit__(self, *_error: object) -> None:
        with self._noting():
            if self._file:
                self._file.close()

    def add(self, row: Row) -> None:
        """Write a row, unless an earlier one could not be written."""
        if self._file and not self.problems:
            record = refused_record(row.line, row.error, row.text, self.options)
            with self._noting():
                self._file.write(json.dumps(record, ensure_ascii=True) + "\n")

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self.problems:
                self.problems.append(not_written(self.name, error))


def not_written(name: str, error: OSError) -> str:
    """Return the sentence about a file of the report that the disk did not take."""
    return f"{name} cannot be written: {error.strerror}."
