"""The chat demo: 150 instructions of many kinds, answered by SmolLM2, in a project beside the film reviews.

A few comparisons are written before the site is served, so that annotators can begin. A round writes the others
meanwhile.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from annotate.imports.records import parse_record
from annotate.imports.writing import write
from annotate.models import Policy, Project, User, stored_aspects
from annotate.projects import base_models
from training.demo import samples, seed, smollm2
from training.demo.seed import Login
from training.rounds import state_machine

SLUG = "chat"
POLICY = "SmolLM2-135M-Instruct"
FIRST = 12  # comparisons that are written before the site is served
BY = "ada"
INSTRUCTIONS = Path(__file__).with_name("instructions.jsonl")
# The model's own chat template, which leaves tools out, with a way to show them.
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
TRAINING: dict[str, Any] = {
    "beta": 0.1,
    "learning_rate": 2e-4,
    "schedule": "linear",
    "warmup_steps": 3,
    "epochs": 2,
    "batch_size": 8,
    "lora": {"r": 16, "alpha": 32},
    "kl_samples": 32,  # of each of two policies, which takes about 100 processor seconds
}
SAMPLING: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 160}
COUNTS: dict[str, Any] = {"fresh_comparisons": 40, "gate_comparisons": 24}
CHOOSING: dict[str, Any] = {"candidates": 4}  # 8 would keep two cores writing for long

GUIDELINES = """\
## Which answer would you rather have been given?

A small assistant answers questions about everything: code, mathematics, letters, tables, other languages. It is
often wrong. Prefer the answer that **helps the person who asked** more.

1. **Is it right?** A wrong result, an invented fact or code that does not run loses against a right answer, however
   well it is written.
2. **Does it do what was asked?** Count sentences if a number was asked for. JSON means JSON alone. A system message is
   part of the task.
3. **Is it clear?** Of two right answers, the shorter one that leaves nothing out is better.

| situation | verdict |
| --- | --- |
| one is right, the other wrong | *much better* |
| both are right, one is easier to use | *better* or *slightly better* |
| both are wrong in the same way | **Both bad** |
| you cannot tell them apart | **Tie** |
| you do not read the language | skip it |

An answer may have been **cut** at its limit of tokens; a note below it says so. Judge what is there. An answer in
another language than the question's is worse, unless that was asked for. With tools, a call in the right form beats an
invented answer.
"""


def seed_chat(say: Callable[[str], None]) -> list[Login]:
    """Make what is missing of the chat demo, and return the logins.

    Raises ModelFetchError, DemoError, SamplingError or RoundError.
    """
    smollm2.install(base_models.smollm2_folder(), say)
    project = make_project()
    logins = seed.make_people(project)
    add_instructions(project)
    write_first(project, say)
    write_others(project, say)
    return logins


def make_project() -> Project:
    """Return the chat project with its first policy, made where they are missing."""
    with transaction.atomic():
        project, _ = Project.objects.get_or_create(
            slug=SLUG,
            defaults={
                "name": "A small assistant",
                "guidelines": GUIDELINES,
                "licence": "apache-2.0",
                "reasons": stored_aspects(["more correct", "follows the instruction", "clearer", "safer"]),
                "visible_metadata": ["topic"],
                "training_settings": TRAINING | {"chat_template": CHAT_TEMPLATE.read_text(encoding="utf-8")},
                "sampling_settings": SAMPLING | COUNTS | {"choosing": CHOOSING},
            },
        )
        if project.current_policy is None:
            project.current_policy, _ = Policy.objects.get_or_create(
                project=project,
                name=POLICY,
                defaults={"kind": Policy.Kind.BASE, "base_model": base_models.SMOLLM2},
            )
            project.save(update_fields=["current_policy"])
    return project


def add_instructions(project: Project) -> None:
    """Import the instructions and the gold comparisons, all or nothing, unless there are prompts."""
    if project.prompts.exists():  # what an admin took out since stays out
        return
    items = []
    for line, text in enumerate(INSTRUCTIONS.read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(text)
        tools = tuple(row.pop("tools", ()))
        items.append((line, replace(parse_record(row), tools=tools)))
    write(project, items, INSTRUCTIONS.stem)


def write_first(project: Project, say: Callable[[str], None]) -> None:
    """Let the model write the first comparisons, unless it has written some."""
    policy = Policy.objects.get(project=project, name=POLICY)
    if policy.completions.exists():
        return
    prompts = project.prompts.for_rounds().unanswered().order_by("pk")[:FIRST]
    say(f"SmolLM2 writes {2 * len(prompts)} completions to begin with; a minute or two ...")
    folder = settings.RUNS / f"{project.slug}-first-samples"
    pairs = samples.sample_pairs(policy, prompts, folder, say=say)
    seed.save_comparisons([seed.compare(project, pair) for pair in pairs])


def write_others(project: Project, say: Callable[[str], None]) -> None:
    """Queue a round that writes for the prompts without completions, unless the project has had a round."""
    left = project.prompts.for_rounds().unanswered().count()
    if left and not project.rounds.exists():
        round_ = state_machine.write(project, User.objects.get(username=BY), left)
        say(f"Round {round_.number} writes {left} more comparisons while the first are judged.")
