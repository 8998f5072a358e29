"""A large pool of comparisons with annotators who are signed in, written straight into the database."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import connection
from django.utils import timezone

from annotate.models import Comparison, Completion, Membership, Policy, Project, Prompt, Role, User

SAMPLES = 4  # completions of a prompt; each two of them make a comparison, as in the paper: 6 pairs a prompt
PAIRS = [(a, b) for a in range(SAMPLES) for b in range(a + 1, SAMPLES)]
WORDS = "the plot moves gently and the cast is warm although the score drags in places where it should sing"


@dataclass(frozen=True)
class Visitor:
    """A person with a session: `cookie` is its value."""

    pk: int
    cookie: str


def make_pool(size: int, needed: int) -> Project:
    """Return a project of `size` comparisons with realistic texts, each waiting for `needed` judgments."""
    project = Project.objects.create(
        slug=f"pool-{size}", name=f"Pool of {size:,}", judgments_needed=needed, gold_rate=0.0
    )
    policy = Policy.objects.create(project=project, name="starter", kind="base", base_model="starter")
    prompts = -(-size // len(PAIRS))
    now = timezone.now()
    for first in range(0, prompts, 5_000):
        rows = range(first, min(first + 5_000, prompts))
        made = Prompt.objects.bulk_create(
            Prompt(
                project=project,
                content=f"Review {row} of a film that {WORDS} begins",
                digest=f"{project.pk:016x}{row:048x}",
                created_at=now,
            )
            for row in rows
        )
        texts = Completion.objects.bulk_create(
            Completion(
                prompt=prompt,
                policy=policy,
                text=f" with scene {number}: {WORDS}; *{WORDS}*. {WORDS.capitalize()} in take {number}.",
                created_at=now,
            )
            for prompt in made
            for number in range(SAMPLES)
        )
        Comparison.objects.bulk_create(
            Comparison(
                project=project,
                prompt=prompt,
                first=texts[at * SAMPLES + a],
                second=texts[at * SAMPLES + b],
                needed=needed,
                created_at=now,
            )
            for at, prompt in enumerate(made)
            for place, (a, b) in enumerate(PAIRS)
            if rows[at] * len(PAIRS) + place < size
        )
    return project


def settle_database() -> None:
    """Refresh the statistics, as a database does by itself within minutes."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


def sign_in(project: Project, count: int, prefix: str) -> list[Visitor]:
    """`count` annotators of `project`, each with a session of their own."""
    store = import_module(settings.SESSION_ENGINE).SessionStore
    annotators = []
    for number in range(count):
        user, _made = User.objects.get_or_create(username=f"{prefix}-{number}")
        Membership.objects.get_or_create(project=project, user=user, defaults={"role": Role.ANNOTATOR})
        session = store()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        annotators.append(Visitor(user.pk, session.session_key))
    return annotators


def faults(project: Project, sent: dict[str, tuple[int, str]]) -> dict[str, int]:
    """Return what must be zero: judgments lost, doubled, wrong or unasked for; double places; wrong counters.

    `sent` maps each confirmed verdict's token to (annotator id, verdict).
    """
    stored: dict[str, Any] = {}
    doubled = 0
    rows = project.judgments.current().values_list("token", "annotator_id", "verdict")
    for token, annotator, verdict in rows.iterator():
        doubled += str(token) in stored
        stored[str(token)] = (annotator, verdict)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*) FROM annotate_comparison c WHERE c.project_id = %s AND (
                c.judged + c.claimed > c.needed
                OR c.judged <> (SELECT count(*) FROM annotate_judgment j WHERE j.comparison_id = c.id
                                AND j.superseded_at IS NULL AND j.verdict <> 'skip')
                OR c.claimed <> (SELECT count(*) FROM annotate_claim h WHERE h.comparison_id = c.id
                                 AND h.state IN ('live', 'next')))
            """,
            [project.pk],
        )
        (wrong_counters,) = cursor.fetchone()
        cursor.execute(
            """
            SELECT count(*) FROM (
                SELECT 1 FROM annotate_judgment WHERE project_id = %s AND superseded_at IS NULL
                GROUP BY comparison_id, annotator_id HAVING count(*) > 1) twice
            """,
            [project.pk],
        )
        (twice,) = cursor.fetchone()
    return {
        "lost": len(sent.keys() - stored.keys()),
        "never sent": len(stored.keys() - sent.keys()),
        "altered": sum(stored[token] != said for token, said in sent.items() if token in stored),
        "doubled": doubled,
        "over-assigned or miscounted": wrong_counters,
        "twice to one person": twice,
    }
