"""`python manage.py push_policy PROJECT POLICY OWNER/NAME`: an adapter with its card, pushed to a hub as a model."""

import os
import sys
from argparse import ArgumentParser
from getpass import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.errors import RefusalError
from annotate.exports.hub import add_visibility
from annotate.models import Policy
from annotate.projects import trail
from training.usage import hub_push


class Command(BaseCommand):
    help = "Push the adapter of a policy, with its model card, to a hub. The token is HF_TOKEN, or asked."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="slug of the project, as in its address")
        parser.add_argument("policy", help="name of the policy")
        parser.add_argument("repository", metavar="OWNER/NAME")
        add_visibility(parser)

    def handle(self, *, project: str, policy: str, repository: str, public: bool, **_: Any) -> None:
        found = Policy.objects.filter(project__slug=project, name=policy).select_related("project").first()
        if found is None:
            raise CommandError(f"Project {project} has no policy called {policy}.")
        token = os.environ.get("HF_TOKEN", "")
        if not token and sys.stdin.isatty():
            token = getpass("Token of the hub: ")
        try:
            address = hub_push.push(found, repository, token, public=public)
        except RefusalError as refused:
            raise CommandError(
                f"{refused.message} (HF_TOKEN)" if refused.field == "token" else str(refused)
            ) from refused
        target = f"adapter of {found.name} to {repository} on the hub"
        trail.record(trail.Verb.EXPORTED, None, project=found.project, target=target)
        self.stdout.write(f"Pushed to {address}")
