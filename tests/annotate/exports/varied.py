"""A project with a bit of everything that can leave, the same on every run and database, ids and times included."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from annotate.models import (
    Claim,
    Comparison,
    Completion,
    Judgment,
    Membership,
    Policy,
    Project,
    Prompt,
    Role,
    Snapshot,
    SnapshotPair,
    SnapshotRating,
    User,
)
from annotate.pairs.settings import PairSettings

BASE = 1_000_000  # of all ids, out of the way of those that a database draws
START = datetime(2026, 1, 31, 23, 59, 58, 123456, tzinfo=UTC)
PEOPLE = 4
TEXTS = (
    "The café’s naïve façade",
    "Съешь ещё этих мягких французских булок",
    "我能吞下玻璃而不伤身体。",
    "نص من اليمين إلى اليسار",
    "quotes \" and \\ and 'these', a tab\t, lines\nand\r\nmore\u2028of\u2029them \x01\x7f",
    "=SUM(A1:A9)",
    "-1 is less; ＝full width",
    "👩‍👩‍👧 e\u0301 \ufeff\u200b 𝔘𝔫𝔦",
    "</script><b>&amp;",
    "",
)
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a": 1, "b": 2.50}'},
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "maximum": 1.25, "minimum": -0.5}},
    }
]
# Keys are in the order that PostgreSQL gives them: the shorter ones first.
METADATA: tuple[dict[str, Any], ...] = (
    {},
    {"n": 12345678901234567890, "x": 0.1, "lang": "de"},
    {"a": [1, 2.5, "drei"], "ü": None, "deep": {"a": "я", "b": 1}, "flag": True},
)
PLAIN, CHATS, ODD = "import 1", "import 2", "import 3"  # batches: texts, chats, and what few formats hold


def make_varied_project() -> Project:
    """Make the project and return it."""
    draw = Random(7)
    project = Project.objects.create(
        pk=BASE,
        slug="varied",
        name="Varied – “quotes”",
        licence="cc-by-4.0",
        guidelines="Be fair.\n\nPrefer *true*.",
        held_out_share=0.25,
        judgments_needed=2,
        reasons=[{"key": "clear", "title": "Klarer"}, {"key": "old", "title": "Old", "removed": True}],
        criteria=[{"key": "helpful", "title": "Helpful"}],
    )
    people = [User(pk=BASE + n, username=f"person{n}", password="!") for n in range(PEOPLE)]
    people[-1].imported_into, people[-1].is_active = project, False
    User.objects.bulk_create(people)
    Membership.objects.bulk_create(
        Membership(project=project, user=person, role=Role.ANNOTATOR) for person in people[:-1]
    )
    policies = Policy.objects.bulk_create(
        Policy(
            pk=BASE + n,
            project=project,
            name=f"policy {n} é",
            kind="base" if n else "external",
            base_model="starter" if n else "",
        )
        for n in range(3)
    )
    prompts = [_prompt(project, number) for number in range(60)]
    Prompt.objects.bulk_create(prompts)
    comparisons: list[Comparison] = []
    for number, prompt in enumerate(prompts):
        pair = [_completion(prompt, policies[(number + side) % 3], number, side) for side in (0, 1)]
        Completion.objects.bulk_create(pair)
        comparisons.append(_comparison(project, prompt, pair, number))
    repeat = comparisons[2]
    comparisons.append(
        Comparison(
            pk=BASE + 60,
            project=project,
            prompt=repeat.prompt,
            first=repeat.first,
            second=repeat.second,
            kind="repeat",
            repeat_of=repeat,
            reserved_for=people[0],
            batch=PLAIN,
            created_at=START,
        )
    )
    Comparison.objects.bulk_create(comparisons)
    judgments: list[Judgment] = []
    for comparison in comparisons:
        _judge(comparison, people, draw, judgments)
    _store_judgments(judgments)
    return project


def freeze(project: Project) -> Snapshot:
    """Freeze some pairs, a tie among them, and ratings, under fixed ids."""
    snapshot = Snapshot.objects.create(
        pk=BASE,
        project=project,
        digest="ab" * 32,
        settings=asdict(PairSettings()),
        counts={"excluded": {"tie": 2}},
    )
    pairs, ratings = SnapshotPair.judgments.through, SnapshotRating.judgments.through
    for number, comparison in enumerate(
        project.comparisons.filter(batch=PLAIN, kind="standard").order_by("pk")
    ):
        said = comparison.judgments.current().order_by("pk")
        sides = (comparison.first_id, comparison.second_id)
        common = {"snapshot": snapshot, "comparison": comparison, "held_out": comparison.prompt.held_out}
        if number % 4 == 3:
            for completion in sides:
                pk = BASE + 2 * number + (completion == sides[1])
                SnapshotRating.objects.create(pk=pk, completion_id=completion, desirable=False, **common)
                ratings.objects.bulk_create(ratings(snapshotrating_id=pk, judgment_id=one.pk) for one in said)
            continue
        chosen, rejected = sides if number % 2 else sides[::-1]
        label = (1.0, 0.5, 2 / 3)[number % 3]
        SnapshotPair.objects.create(
            pk=BASE + number, chosen_id=chosen, rejected_id=rejected, label=label, margin=number / 3, **common
        )
        pairs.objects.bulk_create(pairs(snapshotpair_id=BASE + number, judgment_id=one.pk) for one in said)
    return snapshot


def _prompt(project: Project, number: int) -> Prompt:
    made = Prompt(
        pk=BASE + number,
        project=project,
        external_id=f"p/{number}" if number % 3 else "",
        metadata=METADATA[number % 3],
        batch=PLAIN,
        created_at=START,
    )
    text = f"{number}: {TEXTS[number % len(TEXTS)]}"
    made.set_content(*_said(text, number))
    return made


def _said(text: str, number: int) -> tuple[Any, Any]:
    """Return the content of a prompt, and its tools."""
    user = {"role": "user", "content": text}
    if number < 24:
        return text, None
    if number < 48:
        system = {"role": "system", "content": "Будь краток."}
        turns = [user, {"role": "assistant", "content": "Ja?"}, user]
        return ([system, user], turns, [user])[number % 3], TOOLS if number % 4 == 0 else None
    image = {"type": "image_url", "image_url": {"url": f"https://a.example/{number}.png"}}
    parts = [{"text": "Look", "type": "text"}, image]
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "content": "3.50", "tool_call_id": "c1"}
    return ([user, called, result], [{"role": "user", "content": parts}], text)[number % 3], TOOLS


def _completion(prompt: Prompt, policy: Policy, number: int, side: int) -> Completion:
    text = f"{TEXTS[(number + 3 * side + 1) % len(TEXTS)]} {'x' * (number * side % 7)}{side}"
    text = "The same." if number % 17 == 3 else text
    messages = None
    if number >= 48 and number % 2:
        called = {"role": "assistant", "content": text, "tool_calls": [CALL]}
        messages = [called, {"role": "tool", "content": "1e3"}, {"role": "assistant", "content": "Da."}]
    elif number >= 48 and number % 4 == 0:
        messages = [{"role": "assistant", "content": [{"text": text, "type": "text"}]}]
    sampled = number % 5 == 0
    return Completion(
        pk=BASE + 2 * number + side,
        prompt=prompt,
        policy=policy,
        text=text,
        messages=messages,
        token_ids=[number, 2, 70000 + side] if sampled else None,
        prompt_token_ids=[1, number] if sampled and number % 10 else [side] if sampled else None,
        logprob=(-12.625, -1e-7, -123456789.125, None)[number % 4],
        finish_reason=("stop", "length", "unknown")[number % 3],
        seed=2**40 + number if sampled else None,
        sampling={"top_p": 0.95, "temperature": 1.0, "stop": ["\n"]} if sampled else {},
        created_at=START,
    )


def _comparison(project: Project, prompt: Prompt, pair: Sequence[Completion], number: int) -> Comparison:
    batch = PLAIN if number < 24 else CHATS if number < 48 else ODD
    gold, gate, chosen = number % 11 == 5, number % 11 == 6, number % 11 == 7
    return Comparison(
        pk=BASE + number,
        project=project,
        prompt=prompt,
        first=pair[number % 2],
        second=pair[1 - number % 2],
        kind="gold" if gold else "gate" if gate else "standard",
        gold_preferred=pair[0] if gold else None,
        arm=("control" if number % 2 else "probe") if chosen else "",
        propensity=0.1 + 0.2 if chosen else None,
        external_id=f"c-{number}-ß" if number % 4 else "",
        metadata=METADATA[(number + 1) % 3],
        batch=batch,
        needed=4,
        withdrawn_at=START if number % 13 == 12 else None,
        created_at=START,
    )


def _judge(comparison: Comparison, people: Sequence[User], draw: Random, judgments: list[Judgment]) -> None:
    """Add the judgments of a comparison, some with a history."""
    voters = (
        [people[0]] if comparison.kind == "repeat" else draw.sample(list(people), draw.randint(1, PEOPLE))
    )
    for person in voters:
        is_imported = person == people[-1]
        for revision in range(1 + (draw.random() < 0.15)):
            sides = [comparison.first, comparison.second]
            draw.shuffle(sides)
            verdict = draw.choices(("prefer", "tie", "both_bad", "skip"), (7, 1, 2, 1))[0]
            number = len(judgments)
            moment = START + timedelta(seconds=37.5 * number, microseconds=number % 3 * 500)
            before = judgments[-1] if revision else None
            if before:
                sides = [before.left, before.right]
                before.superseded_at = moment
            is_preference = verdict == "prefer"
            judgments.append(
                Judgment(
                    pk=BASE + number,
                    project=comparison.project,
                    comparison=comparison,
                    annotator=person,
                    verdict=verdict,
                    preferred=draw.choice(sides) if is_preference else None,
                    strength=(None if is_imported and number % 2 else 1 + number % 3)
                    if is_preference
                    else None,
                    skip_reason="not_mine" if verdict == "skip" and number % 2 else "",
                    left=sides[0],
                    right=sides[1],
                    sides_known=not is_imported or number % 3 == 0,
                    import_batch=comparison.batch if is_imported else "",
                    token=uuid.UUID(int=number + 1),
                    reasons=[["clear"], ["old", "clear"], []][number % 3],
                    criteria={"helpful": "left"} if number % 4 == 1 else {},
                    rationale=TEXTS[number % len(TEXTS)] if number % 4 == 0 else "",
                    seconds=None if is_imported else round(0.7 + number / 7, 3),
                    late=number % 9 == 0,
                    too_fast=number % 8 == 0,
                    replaces=before,
                    first_at=before.first_at if before else moment,
                    created_at=moment,
                )
            )


def _store_judgments(judgments: Sequence[Judgment]) -> None:
    """Store the judgments with the claims that they settle."""
    states = {"skip": Claim.State.SKIPPED}
    current = [one for one in judgments if one.superseded_at is None]
    Claim.objects.bulk_create(
        Claim(
            pk=one.pk,
            project=one.project,
            comparison=one.comparison,
            annotator=one.annotator,
            left=one.left,
            right=one.right,
            token=one.token,
            state=Claim.State.PASSED if one.skip_reason else states.get(one.verdict, Claim.State.JUDGED),
            expires_at=START,
        )
        for one in current
    )
    Judgment.objects.bulk_create(judgments)
