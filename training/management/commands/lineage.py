"""`python manage.py lineage POLICY`: what a policy came from, down to the judgments."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.models import Judgment, Policy, Project
from annotate.people.pseudonyms import pseudonym
from primitives.files import whole_file
from training.provenance import lineage_file
from training.rounds import lineage

MOST_PEOPLE = 20


class Command(BaseCommand):
    help = (
        "Show what a policy came from: its parents, their rounds and snapshots, and whose judgments shaped it. "
        "With --judgment, show the policies that a judgment shaped. Annotators are pseudonyms."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("policy", nargs="?", metavar="POLICY", help="name or id of the policy")
        parser.add_argument("--judgment", metavar="ID", type=int, help="a judgment instead of a policy")
        parser.add_argument("--project", metavar="SLUG", help="where two projects have a policy of that name")
        parser.add_argument(
            "--json", metavar="FILE", help="write JSON with every pair and judgment; - is standard output"
        )

    def handle(self, *, policy: str | None, judgment: int | None, json: str | None, **options: Any) -> None:
        if (policy is None) == (judgment is None):
            raise CommandError("Give a POLICY, or --judgment ID.")
        project = find_project(options["project"]) if options["project"] else None
        if policy is not None:
            found = find_policy(policy, project)
            if json is None:
                self.print_policy(found)
            else:
                write(json, lineage_file.policy_lines(found))
            return
        given = Judgment.objects.select_related("project").filter(pk=judgment or 0).first()
        if given is None or (project is not None and given.project != project):
            raise CommandError(f"There is no judgment {judgment}{f' in {project.slug}' if project else ''}.")
        if json is None:
            self.print_judgment(given)
        else:
            write(json, [_text(lineage_file.judgment_lineage(given))])

    def print_policy(self, policy: Policy) -> None:
        """Print a policy and its ancestors, newest first, and whose judgments shaped them."""
        history = lineage.trace_back(policy)
        snapshots = [step.round.snapshot_id for step in history if step.round and step.round.snapshot_id]
        holdings = lineage.count_holdings(snapshots)
        for step in history:
            self.stdout.write(
                f"{step.policy.name} (policy {step.policy.pk}, {step.policy.get_kind_display()})"
            )
            if step.round is None:
                if step.policy.base_model:
                    self.stdout.write(f"  base model {step.policy.base_model}")
                continue
            self.stdout.write(
                f"  made by round {step.round.number}, {step.round.get_state_display().lower()}"
            )
            if step.round.snapshot is not None:
                held = holdings.get(step.round.snapshot.pk, lineage.Holdings())
                self.stdout.write(
                    f"  from snapshot {step.round.snapshot.digest[:12]}: {held.pairs:,} pairs of {held.judgments:,} "
                    f"judgments by {held.annotators:,} annotators"
                )
        children = lineage.find_descendants(policy)
        if children:
            self.stdout.write("Policies that came from it: " + ", ".join(child.name for child in children))
        people = lineage_file.count_by_annotator(snapshots)
        for person, count in people[:MOST_PEOPLE]:
            self.stdout.write(f"  {pseudonym(person)}: {count:,} judgments")
        if len(people) > MOST_PEOPLE:
            self.stdout.write(f"  and {len(people) - MOST_PEOPLE:,} more annotators; --json - lists them.")

    def print_judgment(self, judgment: Judgment) -> None:
        """Print the policies that a judgment shaped, oldest first."""
        said = (
            f"{pseudonym(judgment.annotator_id)}: {judgment.verdict} on comparison {judgment.comparison_id}"
        )
        self.stdout.write(f"Judgment {judgment.pk}, {said}")
        influences = lineage.find_influences_of(judgment)
        for one in influences:
            how = f"round {one.round.number}" if one.round else "descent"
            self.stdout.write(f"  {one.policy.name} (policy {one.policy.pk}), by {how}")
        if not influences:
            self.stdout.write("  It shaped no policy.")


def find_project(slug: str) -> Project:
    """Return the project of this slug. Raises CommandError, naming those that there are."""
    found = Project.objects.filter(slug=slug).first()
    if found is None:
        known = ", ".join(Project.objects.order_by("slug").values_list("slug", flat=True)[:20]) or "none yet"
        raise CommandError(f"There is no project “{slug}”; there is: {known}.")
    return found


def find_policy(name: str, project: Project | None) -> Policy:
    """Return the policy of this name or id. Raises CommandError where there is none, or more than one."""
    among = Policy.objects.select_related("project")
    if project is not None:
        among = among.filter(project=project)
    found = list(among.filter(name=name)[:20])
    if not found and name.isdecimal() and len(name) < 19:
        found = list(among.filter(pk=int(name)))
    if not found:
        raise CommandError(f"There is no policy “{name}”{f' in {project.slug}' if project else ''}.")
    if len(found) > 1:
        slugs = ", ".join(policy.project.slug for policy in found)
        raise CommandError(f"Several projects have a policy “{name}”; choose one with --project: {slugs}.")
    return found[0]


def write(path: str, pieces: Iterable[bytes]) -> None:
    """Write to a file, which appears whole or not at all, or to standard output."""
    if path == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        return
    try:
        with whole_file(Path(path)) as file:
            for piece in pieces:
                file.write(piece)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}.") from error


def _text(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()
