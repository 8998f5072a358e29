"""`python manage.py import_prompts PROJECT FILE`: prompts, pairs and gold comparisons from a file."""

import sys
import tempfile
from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError

from annotate.imports.files.whole import import_whole
from annotate.imports.reader import FORMATS, guess_format
from annotate.imports.records import ImportRefusedError, placed
from annotate.imports.writing import Outcome
from annotate.models import Project


class Command(BaseCommand):
    help = (
        "Bring prompts, pairs of completions and gold comparisons into a project. The file is checked whole first; "
        "with one bad line nothing is changed. What the project has already stays as it is, unless --update is given."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="slug of the project, as in its address")
        parser.add_argument("file", help="the file; - is standard input")
        parser.add_argument(
            "--format",
            choices=FORMATS,
            help="default: by the file's name; txt is one prompt a line",
        )

        parser.add_argument(
            "--update",
            action="store_true",
            help="let the file change what is known and differs: ids, metadata, gold, policies, withdrawn or not",
        )

    def handle(self, *, file: str, format: str | None, update: bool, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project “{options['project']}”.")
        with ExitStack() as stack:
            try:
                source = stack.enter_context(spooled() if file == "-" else Path(file).open("rb"))  # noqa: SIM115 - the stack closes it
                outcome = import_whole(project, source, format or guess_format(file), file, update=update)
            except OSError as error:
                raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
            except ImportRefusedError as refused:
                told = [placed(line, sentence) for line, sentence in refused.errors]
                if refused.count > len(told):
                    told.append(f"and {refused.count - len(told)} more.")
                raise CommandError("\n".join([*told, "Nothing was imported."])) from refused
        self.tell(outcome, update=update)

    def tell(self, outcome: Outcome, *, update: bool) -> None:
        """Print what became of the file."""
        always = ("prompts", "pairs", "gold", "duplicates")
        counts = outcome.counts
        named = [*always, *(name for name in ("different", "updated") if counts[name])]
        self.stdout.write(f"Imported: {', '.join(f'{counts[name]} {name}' for name in named)}.")
        for line, sentence in outcome.remarks:
            self.stdout.write(placed(line, sentence))
        if counts["different"] and not update:
            self.stdout.write("Rows that differ were left as they are: --update takes what the file says.")


def spooled() -> BinaryIO:
    """Return standard input as a file that can be read twice."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    copyfileobj(sys.stdin.buffer, copy)
    copy.seek(0)
    return copy
