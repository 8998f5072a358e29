"""`python manage.py archive PROJECT FILE`: a whole project in one file, to be restored on another server."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.errors import RefusalError
from annotate.projects import trail
from primitives.files import PRIVATE, whole_file
from training.management.commands.lineage import find_project
from training.provenance import archiving
from training.storage.objects import StorageFaultError


class Command(BaseCommand):
    help = (
        "Write a project into one file: settings, members as pseudonyms, prompts, comparisons, judgments with their "
        "history, snapshots, rounds, policies and adapters. `restore` reads it on any server."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="slug of the project, as in its address")
        parser.add_argument(
            "file", metavar="FILE", type=Path, help="where to; it appears whole or not at all"
        )

    def handle(self, *, project: str, file: Path, **options: Any) -> None:
        found = find_project(project)
        try:
            with whole_file(file, mode=PRIVATE) as output:
                counts = archiving.write_archive(found, output)
        except RefusalError as error:
            raise CommandError(str(error)) from error
        except StorageFaultError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}.") from error
        trail.record(trail.Verb.EXPORTED, None, project=found, target="project archive")
        shown = ("prompts", "comparisons", "judgments", "snapshots", "rounds", "policies")
        self.stderr.write(f"{file}: " + ", ".join(f"{counts[name]:,} {name}" for name in shown))
        for policy in archiving.missing_adapters(found):
            self.stderr.write(
                f"Without the adapter of {policy.name}: var/{policy.adapter} is neither in the storage nor here."
            )
