"""The results of a round: the prompts that its policy writes for, and its samples as rows to judge.

A fresh comparison has two completions of the new policy (on-policy, so that the next round learns from what the
policy writes now): all that it wrote for it, or two that were chosen among several candidates (`choosing/`). A gate
comparison has one of the new policy and one of the policy before, on a held-out prompt. Completions that are empty or
equal, or that PostgreSQL does not store, are passed over and counted.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from django.db.models import Count

from annotate.models import Comparison, Completion, Policy, Priority, Prompt
from primitives.chunks import chunks
from training.models import Round
from training.rounds.choosing.candidates import unfitness
from training.rounds.choosing.choice import Key, Shown
from training.rounds.choosing.terms import AT_RANDOM, Terms
from training.rounds.state_machine import FRESH_PRIORITY

FRESH, GATE, PLAIN = "fresh", "gate", "plain"  # plain: fresh, on a held-out prompt, beside chosen ones
GATE_PER_PROMPT = 8  # a gate on very few prompts says little, however many samples it has
ROWS_AT_A_TIME = 500

Entry = dict[str, Any]  # a line of prompts.jsonl
Sample = dict[str, Any]  # a line of samples.jsonl
CompletionPair = tuple[Completion, Completion]  # of one prompt, beside each other


def fresh_entries(round_: Round, count: int, terms: Terms = AT_RANDOM) -> list[Entry]:
    """Return lines of prompts.jsonl for `count` fresh comparisons, of the least compared prompts first.

    A prompt is reused only after all others have been used as often. Held-out prompts are left to the gate. A round
    that only writes has no gate, and writes for them too: their judgments measure a training. Withdrawn prompts are
    left out. Where a probe chooses, there are more prompts than comparisons, and several candidates for each. It does
    not choose on held-out prompts: what is measured there is to hold for all pairs of completions.
    """
    among = round_.project.prompts.for_rounds()
    found = (among.filter(held_out=False) if round_.trains else among).annotate(compared=Count("comparisons"))
    prompts = list(found.values_list("pk", "compared", "held_out"))
    random.Random(f"{round_.folder}:{FRESH}").shuffle(prompts)
    prompts.sort(key=lambda prompt: prompt[1])
    times = _spread([pk for pk, _compared, _held_out in prompts], count)
    if not terms.by_probe:
        return _entries(round_, FRESH, times, 2 if round_.trains or round_.against is None else 1)
    plain = {pk: times[pk] for pk, _compared, held_out in prompts if held_out}
    others = [pk for pk, _compared, held_out in prompts if not held_out]
    groups = terms.count_groups(count - sum(plain.values()), len(others))
    chosen = _entries(round_, FRESH, _spread(others, groups), terms.candidates)
    return chosen + _entries(round_, PLAIN, plain, 2)


def gate_entries(round_: Round, count: int) -> list[Entry]:
    """Return lines of prompts.jsonl, on held-out prompts, for `count` gate comparisons.

    A policy writes one side of each. If there are fewer prompts than `count`, each is sampled more often.
    """
    prompts = list(round_.project.prompts.for_rounds().filter(held_out=True).values_list("pk", flat=True))
    random.Random(f"{round_.folder}:{GATE}").shuffle(prompts)
    return _entries(round_, GATE, _spread(prompts, min(count, GATE_PER_PROMPT * len(prompts))), 1)


def _spread(prompts: list[int], count: int) -> dict[int, int]:
    """Return how many of `count` comparisons each prompt has, in their order."""
    return {pk: count // len(prompts) + (place < count % len(prompts)) for place, pk in enumerate(prompts)}


def _entries(round_: Round, purpose: str, times: Mapping[int, int], samples_each: int) -> list[Entry]:
    """Return a line for each prompt that has a comparison. `n` counts its samples."""
    wanted = [pk for pk in times if times[pk]]
    contents: dict[int, Any] = {}
    for some in chunks(wanted, ROWS_AT_A_TIME):
        rows = Prompt.objects.filter(pk__in=some).values("pk", "content", "tools")
        contents |= {row["pk"]: row for row in rows}
    # The id seeds the samples: it differs from round to round, so that no round repeats another's draws.
    return [
        {
            "id": f"{purpose}/{round_.number}/{pk}",
            "prompt": contents[pk]["content"],
            **({"tools": contents[pk]["tools"]} if contents[pk]["tools"] else {}),
            "n": samples_each * times[pk],
        }
        for pk in wanted
    ]


@dataclass
class NewComparisons:
    """Unsaved rows, ready to be written in one short transaction."""

    completions: list[Completion] = field(default_factory=list)
    fresh: list[Comparison] = field(default_factory=list)
    gate: list[Comparison] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(
        self,
        round_: Round,
        pair: CompletionPair,
        kind: Comparison.Kind,
        priority: int,
        **choice: Any,
    ) -> None:
        """Compare two completions, unless they say the same. Their order is drawn: ids must not tell which is whose."""
        first, second = random.sample(pair, 2)
        if first.text.strip() == second.text.strip():
            self.counts["equal"] += 1
            return
        self.completions += (first, second)
        (self.gate if kind == Comparison.Kind.GATE else self.fresh).append(
            Comparison(
                project=round_.project,
                prompt_id=first.prompt_id,
                first=first,
                second=second,
                kind=kind,
                batch=f"round {round_.number}",
                priority=priority,
                needed=round_.project.judgments_needed,
                **choice,
            )
        )

    def save(self, round_: Round) -> None:
        """Write everything and link it to the round. Call it inside the transaction that ends the round."""
        Completion.objects.bulk_create(self.completions, batch_size=ROWS_AT_A_TIME)
        Comparison.objects.bulk_create(self.fresh + self.gate, batch_size=ROWS_AT_A_TIME)
        round_.fresh.set(self.fresh)
        round_.gate.set(self.gate)


def make_comparisons(
    round_: Round,
    new: Policy,
    new_samples: Iterable[Sample],
    previous_samples: Iterable[Sample],
    shown: Sequence[Shown] | None = None,
) -> NewComparisons:
    """Turn the samples of the new policy and of the one before into completions and comparisons.

    Where some were chosen, the fresh comparisons are those that are `shown`.
    """
    made = NewComparisons()
    previous = _by_entry(previous_samples)
    gate: list[list[CompletionPair]] = []
    chosen: dict[Key, Completion | None] = {}
    for entry, samples in _by_entry(new_samples).items():
        purpose, _number, name = entry.split("/")
        prompt = int(name)
        if purpose == FRESH and shown is not None:
            chosen |= _chosen(prompt, new, samples, made.counts)
            continue
        written = list(completions(prompt, new, samples, made.counts))
        before = None
        if round_.opponent is not None and (purpose == GATE or not round_.trains):
            before = list(completions(prompt, round_.opponent, previous.get(entry, []), made.counts))
        if purpose == GATE:
            gate.append(_pairs(written, before))
        else:
            for pair in _pairs(written, before):
                made.add(round_, pair, Comparison.Kind.STANDARD, FRESH_PRIORITY)
    _add_shown(made, round_, shown or (), chosen)
    _add_gate(made, round_, gate)
    return made


def _pairs(written: Sequence[Completion], before: Sequence[Completion] | None) -> list[CompletionPair]:
    """Return completions beside those of the policy before, or, if none wrote, two and two of them."""
    if before is None:
        return list(zip(written[0::2], written[1::2], strict=False))
    return list(zip(written, before, strict=False))


def _add_shown(
    made: NewComparisons, round_: Round, shown: Sequence[Shown], chosen: Mapping[Key, Completion | None]
) -> None:
    """Add what was chosen to be shown, in any order: that of ids must not tell how it was chosen."""
    for one in random.sample(shown, len(shown)):
        first, second = (chosen[key] for key in one.keys)
        if first is None or second is None:  # chosen by an earlier version, which let unstorable ones through
            continue
        choice = {"arm": one.arm, "propensity": one.propensity}
        made.add(round_, (first, second), Comparison.Kind.STANDARD, FRESH_PRIORITY, **choice)


def _add_gate(made: NewComparisons, round_: Round, gate: Sequence[Sequence[CompletionPair]]) -> None:
    """Add the first sample of every prompt, then the second of every prompt: people see different prompts first."""
    for pairs in zip_longest(*gate):
        for pair in filter(None, pairs):
            made.add(round_, pair, Comparison.Kind.GATE, Priority.GATE)


def _chosen(
    prompt: int, policy: Policy, samples: Iterable[Sample], counts: Counter[str]
) -> dict[Key, Completion | None]:
    """Return the samples of one prompt as unsaved rows, by the id of the prompt's line and their place.

    Those that are empty or unstorable are counted, and None.
    """
    return {
        (sample["id"], sample["index"]): next(completions(prompt, policy, [sample], counts), None)
        for sample in samples
    }


def _by_entry(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample["id"], []).append(sample)
    return found


def completions(
    prompt: int, policy: Policy, samples: Iterable[Sample], counts: Counter[str]
) -> Iterator[Completion]:
    """Yield the samples of one prompt as unsaved rows. Empty and unstorable ones are skipped and counted."""
    for sample in samples:
        if why := unfitness(sample["completion"]):
            counts[why] += 1
            continue
        yield Completion(
            prompt_id=prompt,
            policy=policy,
            text=sample["completion"],
            messages=sample.get("messages"),
            token_ids=sample["token_ids"],
            prompt_token_ids=sample.get("prompt_token_ids"),
            logprob=sample["logprob"],
            finish_reason=sample["finish_reason"],
            seed=sample["seed"],
            sampling=_sampling(sample),
        )


def _sampling(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling settings of a sample: what its line says beyond the columns."""
    return {key: value for key, value in sample.items() if key not in _COLUMNS}


_COLUMNS = {
    *(
        "id",
        "index",
        "completion",
        "messages",
        "token_ids",
        "prompt_token_ids",
        "logprob",
        "finish_reason",
        "seed",
    ),
}
