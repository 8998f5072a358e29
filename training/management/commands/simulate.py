"""`make loop`: the whole loop with simulated annotators, and a table of what each round taught."""

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.projects.base_models import SMOLLM2, smollm2_folder
from training.demo import instance, loop, loop_report, smollm2
from training.demo.samples import SamplingError
from training.demo.smollm2 import ModelFetchError
from training.demo.subjects import SUBJECTS
from training.demo.supervisor import ProcessError, interrupt_on_signals


class Command(BaseCommand):
    help = (
        "Simulate rounds on a fresh project: two annotators who choose by the ground-truth reward with Bradley-Terry "
        "noise judge through the queue, a Celery worker of its own trains and samples, and each policy is measured "
        "on fresh prompts. A demo that runs beside it is not disturbed."
    )
    requires_system_checks = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        default = loop.Options()
        for name, what in (
            ("rounds", "how many rounds"),
            ("judgments", "judgments that train each round"),
            ("overlap", "judgments on each comparison, 1 or 2"),
            ("fresh", "prompts on which each policy is measured"),
            ("seed", "seed of prompts, samples, training and noise"),
        ):
            value = getattr(default, name)
            parser.add_argument(f"--{name}", type=int, default=value, help=f"{what} ({value})")
        parser.add_argument(
            "--model",
            choices=SUBJECTS,
            default=default.model,
            help="starter: film reviews, judged by their own grammar; smollm2: chats, judged by VADER's sentiment",
        )
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")

    def handle(self, *, json: Path | None, **options: Any) -> None:
        interrupt_on_signals()
        names = ("model", "rounds", "judgments", "overlap", "fresh", "seed")
        began = time.monotonic()
        try:
            chosen = loop.Options(**{name: options[name] for name in names})
            if chosen.model == SMOLLM2:
                smollm2.install(smollm2_folder(), self.say)
            instance.migrate()
            with instance.own_worker(self.say) as check:
                simulated = loop.Loop(chosen, self.say)
                rows = []
                for row in simulated.run(check):
                    rows.append(row)
                    self.say(f"{loop_report.table_header()}\n{loop_report.table_row(row)}")
                    if json is not None:  # after each row: what was measured is kept, however the loop ends
                        loop.write_result(json, simulated, rows, time.monotonic() - began)
            seconds = time.monotonic() - began
            self.say("\n".join(["", loop_report.table_header(), *map(loop_report.table_row, rows)]))
            self.say(f"\n{seconds:.0f} seconds. The project is {simulated.project.slug}.")
        except (loop.LoopError, ProcessError, SamplingError, ModelFetchError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Stopped.") from None

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
