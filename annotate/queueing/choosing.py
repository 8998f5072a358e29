"""Finding and taking the next comparison, in one statement.

The statement walks partial indexes and stops at the first hit. First comes what this person gave back lately, then
what is reserved for them (repeats), gold where the dice say so, and raised priorities. The open comparisons follow
in the order of their shuffle keys, from a random place on the ring, so that annotators rarely meet. Comparisons
that they have had are passed over. No text column is touched, and the cost does not grow with the project.

On PostgreSQL a row that another transaction holds is passed over too; SQLite has one writer at a time.
"""

# ruff: noqa: S608 - only constants of this module are put together; values are parameters

import random
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.db import connection

from annotate.models import SHUFFLE_KEYS, Claim, Project, User
from annotate.queueing import repeats
from annotate.queueing.workload import count_workload

RESUMED_WITHIN = timedelta(days=1)  # how long one is offered first what one gave back


def _quoted(states: Iterable[Claim.State]) -> str:
    return ", ".join(f"'{state.value}'" for state in states)


NOT_HAD = f"""NOT EXISTS (
    SELECT 1 FROM annotate_claim had WHERE had.comparison_id = c.id AND had.annotator_id = %(annotator)s
    AND had.state IN ({_quoted(Claim.HAD)}))"""

QUALIFIED = """EXISTS (
    SELECT 1 FROM annotate_membership m
    WHERE m.project_id = %(project)s AND m.user_id = %(annotator)s AND m.qualified_at IS NOT NULL)"""

GIVEN_BACK = f"""SELECT c.id FROM annotate_claim mine JOIN annotate_comparison c ON c.id = mine.comparison_id
    WHERE mine.project_id = %(project)s AND mine.annotator_id = %(annotator)s
    AND mine.state IN ({_quoted(Claim.FREED)}) AND mine.expires_at > %(resumed)s
    AND (c.open OR (c.kind = 'gold' AND c.withdrawn_at IS NULL))
    ORDER BY mine.expires_at DESC"""

RESERVED = f"""SELECT c.id FROM annotate_comparison c
    WHERE c.reserved_for_id = %(annotator)s AND c.project_id = %(project)s
    AND c.open AND c.reserved_for_id IS NOT NULL AND {NOT_HAD}
    ORDER BY c.shuffle_key"""

RAISED = f"""SELECT c.id FROM annotate_comparison c
    WHERE c.project_id = %(project)s AND c.open AND c.reserved_for_id IS NULL AND c.priority > 0 AND {NOT_HAD}
    ORDER BY c.priority DESC, c.shuffle_key"""

STANDARD = f"""SELECT c.id FROM annotate_comparison c
    WHERE c.project_id = %(project)s AND c.open AND c.reserved_for_id IS NULL AND c.priority = 0
    AND c.shuffle_key {{side}} %(start)s AND {NOT_HAD}
    ORDER BY c.shuffle_key"""

GOLD = f"""SELECT c.id FROM annotate_comparison c
    WHERE c.project_id = %(project)s AND c.kind = 'gold' AND c.withdrawn_at IS NULL
    AND c.shuffle_key {{side}} %(start)s AND {NOT_HAD}
    ORDER BY c.shuffle_key"""

TAKE = f"""
INSERT INTO annotate_claim (
    project_id, annotator_id, comparison_id, left_id, right_id, token, state, claimed_at, seen_at, expires_at, draft
)
SELECT %(project)s, %(annotator)s, id,
    CASE WHEN %(swapped)s THEN second_id ELSE first_id END,
    CASE WHEN %(swapped)s THEN first_id ELSE second_id END,
    %(token)s, %(state)s, %(now)s, %(seen)s, %(expires)s, '{{{{}}}}'
FROM annotate_comparison WHERE id = ({{candidates}} LIMIT 1)
ON CONFLICT (comparison_id, annotator_id) DO UPDATE SET
    state = excluded.state, claimed_at = excluded.claimed_at, seen_at = excluded.seen_at,
    expires_at = excluded.expires_at
WHERE annotate_claim.state IN ({_quoted(Claim.FREED)}) -- not one that another tab took while this one waited
RETURNING id
"""


def choose(
    project: Project,
    annotator: User,
    state: Claim.State,
    now: datetime,
    lasting: timedelta,
    *,
    wait: bool = False,
    only_gold: bool = False,
) -> int | None:
    """Take the next comparison for this person; returns the claim's id, or None if there is nothing.

    `wait`: wait for rows that others hold instead of passing them over, so that None is the truth. It must not
    hold a comparison already. `only_gold` serves the qualification. IntegrityError if the person holds a claim
    in this state already.
    """
    gold = only_gold
    if not only_gold:
        gold, repeat = (random.random() < rate for rate in (project.gold_rate, project.repeat_rate))
        if gold or repeat:
            # No more of them than the count of what is left holds: it would tell them from the others.
            work = count_workload(project, annotator)
            gold = gold and work.gold_due > 0
            if repeat and work.repeats_due:
                repeats.make_repeat(project, annotator)
    reserved = wait or project.repeat_rate > 0  # what was reserved before repeats were turned off comes last
    statement = _statement(gold, only_gold, reserved, bool(project.qualification_size), _lock(wait))
    with connection.cursor() as cursor:
        cursor.execute(statement, _parameters(project, annotator, state, now, lasting))
        row = cursor.fetchone()
    return row[0] if row else None


def _lock(wait: bool) -> str:
    if not connection.features.has_select_for_update:
        return ""
    return "FOR UPDATE OF c" if wait else "FOR UPDATE OF c SKIP LOCKED"


@lru_cache
def _statement(gold: bool, only_gold: bool, reserved: bool, qualified_only: bool, lock: str) -> str:
    sides = (">=", "<")
    golds = [GOLD.format(side=side) for side in sides] if gold else []
    steps = (
        golds
        if only_gold
        else [
            GIVEN_BACK,
            *([RESERVED] if reserved else []),
            *golds,
            RAISED,
            *(STANDARD.format(side=side) for side in sides),
        ]
    )
    candidates = " UNION ALL ".join(
        f"SELECT id FROM ({step} LIMIT 1 {lock}) AS step_{number}" for number, step in enumerate(steps)
    )
    if qualified_only and not only_gold:
        candidates = f"SELECT id FROM ({candidates}) AS steps WHERE {QUALIFIED}"
    return TAKE.format(candidates=candidates)


def _parameters(
    project: Project, annotator: User, state: Claim.State, now: datetime, lasting: timedelta
) -> dict[str, Any]:
    moment = connection.ops.adapt_datetimefield_value
    token = Claim._meta.get_field("token").get_db_prep_value(uuid.uuid4(), connection)
    return {
        "project": project.pk,
        "annotator": annotator.pk,
        "token": token,
        "state": state.value,
        "swapped": random.random() < 0.5,
        "start": random.randrange(SHUFFLE_KEYS),
        "now": moment(now),
        "seen": moment(now) if state == Claim.State.LIVE else None,
        "expires": moment(now + lasting),
        "resumed": moment(now - RESUMED_WITHIN),
    }
