"""`python manage.py import_prompts PROJECT FILE`: prompts, pairs and gold comparisons from a file."""

import sys
import tempfile
from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError

from annotate.imports import records
from annotate.models import Project


class Command(BaseCommand):
    help = (
        "Bring prompts, pairs of completions and gold comparisons into a project. The file is checked whole first; "
        "with one bad line nothing is changed. What the project has already is passed over."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="slug of the project, as in its address")
        parser.add_argument("file", help="the file; - is standard input")
        parser.add_argument(
            "--format",
            choices=records.FORMATS,
            help="default: by the file's name; txt is one prompt a line",
        )

    def handle(self, *, file: str, format: str | None, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project “{options['project']}”.")
        with ExitStack() as stack:
            try:
                source = stack.enter_context(spooled() if file == "-" else Path(file).open("rb"))  # noqa: SIM115 - the stack closes it
                counts = records.import_file(project, source, format or records.guess_format(file), file)
            except OSError as error:
                raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
            except records.ImportRefusedError as refused:
                told = [records.placed(line, sentence) for line, sentence in refused.errors]
                if refused.count > len(told):
                    told.append(f"and {refused.count - len(told)} more.")
                raise CommandError("\n".join([*told, "Nothing was imported."])) from refused
        parts = ", ".join(f"{counts[name]} {name}" for name in ("prompts", "pairs", "gold", "duplicates"))
        self.stdout.write(f"Imported: {parts}.")


def spooled() -> BinaryIO:
    """Return standard input as a file that can be read twice."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    copyfileobj(sys.stdin.buffer, copy)
    copy.seek(0)
    return copy
