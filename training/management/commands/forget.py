"""`python manage.py forget`: a person, a prompt or an import, with all that came of it."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.errors import RefusalError
from annotate.models import Import, Project, Prompt, User
from annotate.text.usernames import name_key
from training.management.commands.lineage import find_project
from training.models import Round
from training.provenance import forgetting, retraining
from training.provenance.consequences import (
    Consequences,
    Target,
    find_consequences,
    import_target,
    person_targets,
    prompt_target,
)


class Command(BaseCommand):
    help = (
        "Forget an annotator, a prompt or an import: list what depends on it, remove it, mark what it shaped, and with "
        "--retrain do the affected rounds over without it. Without a target, --retrain queues the next of them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        target = parser.add_mutually_exclusive_group()
        target.add_argument("--annotator", metavar="NAME", help="username, or pseudonym such as annotator-12")
        target.add_argument("--prompt", metavar="ID", type=int, help="id of a prompt, as exports have it")
        target.add_argument("--import", metavar="N", type=int, dest="upload", help="number of an import")
        parser.add_argument(
            "--project", metavar="SLUG", help="in this project alone; an annotator keeps their account then"
        )
        parser.add_argument(
            "--retrain", action="store_true", help="queue the next affected round, without it"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="list what depends on it, and change nothing"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, **options: Any) -> None:
        project = find_project(options["project"]) if options["project"] else None
        targets, account = self.find_targets(project, options)
        if not targets and not account:
            self.retrain_more(project, options)
            return
        found = [find_consequences(target) for target in targets]
        self.tell(found, options)
        if options["dry_run"]:
            return
        if not options["yes"]:
            confirm()
        undeleted: list[str] = []
        try:
            queued = forgetting.forget(
                targets, account=account, retrain=options["retrain"], undeleted=undeleted
            )
        except RefusalError as error:
            raise CommandError(f"Nothing was forgotten: {error}") from error
        self.stderr.write(
            "Forgotten. Copies that were exported or downloaded before are not reached by this."
        )
        if undeleted:
            self.stderr.write("These files could not be deleted. Delete them yourself:")
            for name in undeleted:
                self.stderr.write(f"  {name}")
        self.tell_queued(queued)

    def find_targets(
        self, project: Project | None, options: dict[str, Any]
    ) -> tuple[list[Target], User | None]:
        """Return the targets that the options name, and the account that goes with them."""
        if options["annotator"] is not None:
            person = find_person(options["annotator"])
            return person_targets(person, project), None if project else person
        if options["prompt"] is not None:
            prompt = _one(Prompt, "prompt", options["prompt"], project)
            return [prompt_target(prompt)], None
        if options["upload"] is not None:
            upload = _one(Import, "import", options["upload"], project)
            return [import_target(upload)], None
        return [], None

    def retrain_more(self, project: Project | None, options: dict[str, Any]) -> None:
        """Queue the next round that waits for being done over."""
        if not options["retrain"] or project is None:
            raise CommandError(
                "Give --annotator NAME, --prompt ID or --import N; or --retrain --project SLUG to go on retraining."
            )
        if options["dry_run"]:
            numbers = [round_.number for round_ in retraining.rounds_to_retrain(project)]
            self.stdout.write(f"Rounds to do over: {', '.join(map(str, numbers)) or 'none'}.")
            return
        try:
            round_ = retraining.retrain_next(project)
        except RefusalError as error:
            raise CommandError(str(error)) from error
        if round_ is None:
            self.stdout.write("No round is left to do over.")
        else:
            self.tell_queued([round_])

    def tell(self, found: list[Consequences], options: dict[str, Any]) -> None:
        """Print what depends on the targets."""
        if options["json"]:
            self.stdout.write(json.dumps([one.to_dict() for one in found], indent=1))
            return
        for one in found:
            self.stdout.write(f"In {one.project.slug}:")
            self.stdout.write(f"  judgments: {one.judgments:,}, comparisons: {one.comparisons:,}")
            self.stdout.write(f"  prompts: {one.prompts:,}, pairs in snapshots: {one.pairs:,}")
            if one.ratings:
                self.stdout.write(f"  single ratings in snapshots: {one.ratings:,}")
            for name, values in (
                ("snapshots", [snapshot.digest[:12] for snapshot in one.snapshots]),
                ("rounds trained on them", [str(round_.number) for round_ in one.rounds]),
                ("rounds that started from those", [str(round_.number) for round_ in one.descended]),
                ("policies", [policy.name for policy in one.policies]),
            ):
                self.stdout.write(f"  {name}: {', '.join(values) or 'none'}")
        if not found:
            self.stdout.write("No project knows them. The account is removed.")

    def tell_queued(self, queued: list[Round]) -> None:
        """Print which rounds were queued, and how many wait for them."""
        for round_ in queued:
            original = round_.retrains.number if round_.retrains else 0
            self.stderr.write(f"{round_.project.slug}: round {round_.number} does round {original} over.")
            if left := len(retraining.rounds_to_retrain(round_.project)):
                slug = round_.project.slug
                self.stderr.write(
                    f"{left} more to do over. Once round {round_.number} is decided: "
                    f"python manage.py forget --retrain --project {slug}"
                )


def find_person(name: str) -> User:
    """Return the person of this username or pseudonym. Raises CommandError."""
    found = User.objects.filter(username_key=name_key(name)).first()
    number = name.removeprefix("annotator-")
    if found is None and number != name and number.isdecimal() and len(number) < 19:
        found = User.objects.filter(pk=int(number)).first()
    if found is None:
        raise CommandError(f"There is no annotator “{name}”.")
    return found


def _one(model: Any, name: str, pk: int, project: Project | None) -> Any:
    found = model.objects.select_related("project").filter(pk=pk).first()
    if found is None or (project is not None and found.project != project):
        raise CommandError(f"There is no {name} {pk}{f' in {project.slug}' if project else ''}.")
    return found


def confirm() -> None:
    """Ask whether to go on. Raises CommandError unless the answer is yes."""
    if not sys.stdin.isatty():
        raise CommandError("Nothing was forgotten: without a terminal, add --yes.")
    if input("This cannot be undone. Forget it? Type yes: ").strip().lower() != "yes":
        raise CommandError("Nothing was forgotten.")
