"""`make demo`: everything that a newcomer needs, in the foreground, until Ctrl-C."""

import os
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from training.demo import chat, instance, seed
from training.demo.samples import SamplingError
from training.demo.smollm2 import ModelFetchError
from training.demo.supervisor import ProcessError, interrupt_on_signals
from training.rounds.starts import RoundError

SEEDS = {"starter": seed.seed, "smollm2": chat.seed_chat}


class Command(BaseCommand):
    help = (
        "Serve a project to try: prepares the database, seeds film reviews written by the starter model (or a chat "
        "project with SmolLM2, which is downloaded once), starts the web server and a worker, prints the address and "
        "the logins, and stays until Ctrl-C. Run again, it continues where it was."
    )
    requires_system_checks = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        port = os.environ.get("PORT", "8000")
        parser.add_argument("--port", type=int, default=port, help="listen there (8000, or PORT)")
        parser.add_argument(
            "--host", default="127.0.0.1", help="address to bind; this machine alone by default"
        )
        parser.add_argument(
            "--model",
            choices=SEEDS,
            default="starter",
            help="starter: film reviews, no download; smollm2: a chat project",
        )
        parser.add_argument("--reset", action="store_true", help="start over; the old state is set aside")
        parser.add_argument(
            "--stop", action="store_true", help="stop a running demo, and what it left behind"
        )

    def handle(self, *, host: str, port: int, model: str, reset: bool, stop: bool, **options: Any) -> None:
        interrupt_on_signals()
        try:
            if stop:
                ended = instance.stop()
                self.say(f"Stopped the {' and the '.join(ended)}." if ended else "No demo is running.")
                return
            if reset:
                instance.reset()
            self.serve(host, port, model)
        except (ProcessError, ModelFetchError, seed.DemoError, SamplingError, RoundError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.say("\nStopped. `make demo` goes on from here.")

    def serve(self, host: str, port: int, model: str) -> None:
        logins: list[seed.Login] = []
        try:
            instance.serve(
                host,
                port,
                prepare=lambda: logins.extend(SEEDS[model](self.say)),
                ready=lambda address: self.say(welcome(address, logins)),
                say=self.say,
            )
        except instance.AlreadyServingError as other:
            if not other.address:
                raise CommandError(
                    "Another command is preparing the demo just now; wait for its address."
                ) from None
            self.say(welcome(other.address, seed.stored_logins()))
            self.say("It was running already: `make stop` stops it.")

    def say(self, text: str) -> None:
        with suppress(BrokenPipeError):  # the reader is gone; that is no reason to stop serving
            self.stdout.write(text)
            self.stdout.flush()


def welcome(address: str, logins: list[seed.Login]) -> str:
    """Return the address and the logins, as a small table."""
    lines = [f"  {login.role:<12}{login.username:<10}{login.password}" for login in logins]
    header = f"  {'role':<12}{'user':<10}password"
    return "\n".join(["", f"Whetstone is ready at {address}", "", header, *lines, "", "Ctrl-C stops it."])
