"""`python manage.py move_files`: the files of this machine into the storage that WHETSTONE_STORAGE names."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings as site
from django.core.management.base import BaseCommand, CommandError

from training.storage import moving


class Command(BaseCommand):
    help = (
        "Put what this machine has below var/files and var/runs into the storage of WHETSTONE_STORAGE. Run it on each "
        "machine that has some. Run it again to pick up where it left off."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--delete", action="store_true", help="remove from this machine what the storage has"
        )

    def handle(self, *, delete: bool, **options: Any) -> None:
        if not site.STORES_RUNS:
            raise CommandError("WHETSTONE_STORAGE names no storage, so there is nowhere to move files to.")
        try:
            account = moving.move(self.stdout.write, delete=delete)
        except OSError as error:
            raise CommandError(
                f"{error.filename or 'A file'} could not be moved: {error.strerror or error}. Run this again."
            ) from error
        self.stdout.write(
            f"Moved {account.moved:,} files. The storage had {account.known:,} already; "
            f"{account.missing:,} are missing."
        )
