"""`python manage.py restore FILE`: a project from its archive, under ids of this server."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.errors import RefusalError
from annotate.models import Policy, Project, Role, User
from annotate.projects import base_models
from annotate.text.usernames import name_key
from training.provenance.archive_reader import MOST_BYTES, ArchiveReader
from training.provenance.restoring import restore


class Command(BaseCommand):
    help = (
        "Restore a project from an archive: other ids, the same content and hashes. People come as accounts that "
        "cannot be entered, unless --person names the account that takes their place."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument("--slug", default="", help="slug of the new project (its own, if that is free)")
        parser.add_argument("--admin", metavar="USERNAME", help="an account here that joins as an admin")
        parser.add_argument(
            "--person",
            metavar="PSEUDONYM=USERNAME",
            action="append",
            default=[],
            help="an account here that takes the place of a person, such as annotator-12=toni; repeat it",
        )
        parser.add_argument(
            "--max-gigabytes",
            metavar="N",
            type=int,
            default=MOST_BYTES >> 30,
            help="unpacked (default %(default)s)",
        )

    def handle(self, *, file: Path, **options: Any) -> None:
        accounts = {}
        for named in options["person"]:
            pseudonym, equals, username = named.partition("=")
            if not equals:
                raise CommandError(f"--person must be PSEUDONYM=USERNAME, not “{named}”.")
            accounts[pseudonym] = find_account(username)
        admin = find_account(options["admin"]) if options["admin"] else None
        try:
            with file.open("rb") as source:
                reader = ArchiveReader(source, options["max_gigabytes"] << 30)
                project = restore(reader, slug=options["slug"], accounts=accounts, admin=admin)
        except RefusalError as error:
            raise CommandError(f"Nothing was restored. {error}") from error
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
        self.stderr.write(f"Restored as {project.slug}: {project.judgments.count():,} judgments.")
        self.tell_missing(project)

    def tell_missing(self, project: Project) -> None:
        """Print what the project needs here before its members can work in it."""
        admins = project.memberships.filter(role=Role.ADMIN, user__is_active=True)
        if not admins.exists():
            self.stderr.write(
                "It has no admin who can sign in: add one in /admin/, or restore it with --admin."
            )
        bases = (
            project.policies.exclude(kind=Policy.Kind.EXTERNAL)
            .order_by()
            .values_list("base_model", flat=True)
        )
        for base in sorted(set(bases)):
            if not base_models.is_here(base):
                self.stderr.write(
                    f"The base model {base} is not on this server yet, or not allowed (WHETSTONE_MODELS)."
                )


def find_account(username: str) -> User:
    """Return the account of this name. Raises CommandError."""
    found = User.objects.filter(username_key=name_key(username), is_active=True).first()
    if found is None:
        raise CommandError(f"There is no account “{username}” here.")
    return found
