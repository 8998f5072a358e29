"""The demo: film reviews written by the starter model, with accounts to log in with.

`seed` makes what is missing and leaves the rest alone, so it can be cut short and run again.
"""

import json
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission
from django.db import transaction

from annotate.models import (
    Comparison,
    Completion,
    Membership,
    Policy,
    Project,
    Prompt,
    Role,
    User,
    stored_aspects,
)
from annotate.projects.base_models import STARTER
from annotate.text.chats import Content
from primitives.files import PRIVATE, write_whole
from training.demo import samples
from training.engine.starter import reviews
from training.rounds.plan import DECIDED

SLUG = "film-reviews"
LOGINS = "demo-logins.json"
PROMPTS = 160
FOR_GATES = 100  # prompts beside them, which are held out: a gate on a tenth of 160 would hardly ever decide
GOLD = 12
CLEAR_CUT = 1.2  # the least difference in reward, which spans 2, that makes a gold comparison
EMAIL_DOMAIN = "demo.invalid"  # tells accounts of the demo from people's

PEOPLE = {
    "ada": Role.ADMIN,
    "ben": Role.ANNOTATOR,
    "chloe": Role.ANNOTATOR,
    "rosa": Role.RESEARCHER,
}

GUIDELINES = """\
## Which review likes its film better?

A small model goes on writing where an opening of a film review stops. \
Prefer the completion that **speaks better of the film**.

- Weigh what is said about acting, story, music, pictures, pace and ending together.
- *Much better*: one praises, the other damns. *Slightly better*: the same mood, one word warmer.
- **Tie** when both are equally warm, or neither has an opinion. **Both bad** when neither is legible.
- Length, style and grammar do not count, unless you cannot read it.

| if the review says | it speaks |
| --- | --- |
| superb, moving, gladly again | well of the film |
| tedious, wooden, a waste of an evening | badly of the film |
| runs for two hours, based on a novel | neither |

Judge a hundred, let the admin start a round, and see what the sharpened model writes next.
"""


class DemoError(Exception):
    """A reason why the demo cannot be made, in a sentence for the user."""


@dataclass(frozen=True)
class Login:
    role: str
    username: str
    password: str


def seed(say: Callable[[str], None]) -> list[Login]:
    """Make what is missing of the demo project, and return the logins. Raises DemoError or SamplingError."""
    project = make_project()
    logins = make_people(project)
    make_comparisons(project, say)
    return logins


def make_project() -> Project:
    """Return the demo project with its first policy, made where they are missing."""
    with transaction.atomic():
        project, _ = Project.objects.get_or_create(
            slug=SLUG,
            defaults={
                "name": "Film reviews",
                "guidelines": GUIDELINES,
                "reasons": stored_aspects(["warmer words", "fewer complaints", "easier to read"]),
                "training_settings": recommended("training"),
                "sampling_settings": recommended("sampling"),
            },
        )
        if project.current_policy is None:
            project.current_policy, _ = Policy.objects.get_or_create(
                project=project, name=STARTER, defaults={"kind": Policy.Kind.BASE, "base_model": STARTER}
            )
            project.save(update_fields=["current_policy"])
    return project


def recommended(part: str) -> dict[str, Any]:
    """Return settings that suit the starter model, as measured with it. `part` is `training` or `sampling`."""
    settings_file: Path = settings.STARTER_MODEL / "recommended.json"
    found = json.loads(settings_file.read_text())[part]
    return {name: value for name, value in found.items() if name not in DECIDED}


def make_people(project: Project) -> list[Login]:
    """Make the accounts members, with passwords that are made once per install and kept in var/."""
    passwords = {login.username: login.password for login in stored_logins()}
    logins = [
        Login(str(role.label), name, passwords.get(name) or new_password()) for name, role in PEOPLE.items()
    ]
    content = json.dumps([asdict(login) for login in logins], indent=2)
    write_whole(settings.VAR / LOGINS, content.encode(), mode=PRIVATE, durable=False)
    for login in logins:
        email = f"{login.username}@{EMAIL_DOMAIN}"
        with transaction.atomic():
            user, _ = User.objects.get_or_create(username=login.username, defaults={"email": email})
            if user.email != email:
                raise DemoError(
                    f"The database has an account named {login.username} that is not the demo's; "
                    f"run the demo in a folder of its own with WHETSTONE_VAR."
                )
            if not user.check_password(login.password):
                user.set_password(login.password)
                user.save(update_fields=["password"])
            Membership.objects.get_or_create(
                project=project, user=user, defaults={"role": PEOPLE[login.username]}
            )
            if PEOPLE[login.username] == Role.ADMIN:  # who may also try a project of their own
                user.user_permissions.add(
                    Permission.objects.get(content_type__app_label="annotate", codename="add_project")
                )
    return logins


def stored_logins() -> list[Login]:
    """Return the logins of this install: none where the file is missing or torn."""
    try:
        return [Login(**login) for login in json.loads((settings.VAR / LOGINS).read_text())]
    except (OSError, ValueError, TypeError):
        return []


def new_password() -> str:
    """Return a password that can be spoken and is long enough for a demo: six syllables, 40 bits."""
    syllables = [secrets.choice("bdfghjklmnprstvz") + secrets.choice("aeiou") for _ in range(6)]
    return "-".join("".join(syllables[start : start + 2]) for start in (0, 2, 4))


def add_prompts(project: Project, contents: Sequence[Content], name: str = "opening") -> list[Prompt]:
    """Return openings or chats as prompts of the project, made where it does not have them yet."""
    known = set(project.prompts.values_list("digest", flat=True))
    prompts = []
    for number, content in enumerate(contents, start=1):
        prompt = Prompt(project=project, external_id=f"{name}-{number}")
        prompt.set_content(content)
        prompts.append(prompt)
    Prompt.objects.bulk_create(prompt for prompt in prompts if prompt.digest not in known)
    return list(project.prompts.filter(digest__in=[prompt.digest for prompt in prompts]).order_by("pk"))


def add_gate_prompts(project: Project, contents: Sequence[Content]) -> None:
    """Add prompts that are held out, and that nothing is written for before a gate."""
    found = add_prompts(project, contents, "for-gates")
    Prompt.objects.filter(pk__in=[prompt.pk for prompt in found]).update(held_out=True)


def make_comparisons(project: Project, say: Callable[[str], None]) -> None:
    """Make a comparison for each opening without one, of two samples of the starter. The clearest become gold."""
    policy = Policy.objects.get(project=project, name=STARTER)
    compared = set(project.comparisons.values_list("prompt_id", flat=True))
    openings = reviews.openings(PROMPTS + FOR_GATES)
    prompts = add_prompts(project, openings[:PROMPTS])
    add_gate_prompts(project, openings[PROMPTS:])
    waiting = {prompt.pk: prompt for prompt in prompts if prompt.pk not in compared}
    if not waiting:
        return
    say(f"The starter model writes {2 * len(waiting)} completions ...")
    folder = settings.RUNS / f"{project.slug}-first-samples"
    pairs = samples.sample_pairs(policy, waiting.values(), folder)
    missing = max(0, GOLD - project.comparisons.filter(kind=Comparison.Kind.GOLD).count())
    clear = [
        pair for pair in pairs if contrast(pair) >= CLEAR_CUT and not waiting[pair[0].prompt_id].held_out
    ]
    gold = {id(pair) for pair in sorted(clear, key=contrast, reverse=True)[:missing]}
    save_comparisons([compare(project, pair, gold=id(pair) in gold) for pair in pairs])


def contrast(pair: samples.Pair) -> float:
    """Return the difference of two completions in reward, 0 to 2."""
    return abs(reviews.reward(pair[0].text) - reviews.reward(pair[1].text))


def compare(project: Project, pair: samples.Pair, *, gold: bool = False) -> Comparison:
    """Return a comparison of the pair, not saved. As gold it knows which completion speaks better of its film."""
    first, second = random.sample(pair, 2)  # ids must not tell which was written first
    comparison = Comparison(
        project=project,
        prompt_id=first.prompt_id,
        first=first,
        second=second,
        needed=project.judgments_needed,
        batch="first samples",
    )
    if gold:
        comparison.kind = Comparison.Kind.GOLD
        comparison.gold_preferred = max(pair, key=lambda completion: reviews.reward(completion.text))
    return comparison


def save_comparisons(comparisons: list[Comparison]) -> None:
    """Write comparisons with their completions: all of them, or none."""
    with transaction.atomic():
        Completion.objects.bulk_create(
            completion for comparison in comparisons for completion in (comparison.first, comparison.second)
        )
        Comparison.objects.bulk_create(comparisons)
