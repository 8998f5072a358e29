"""KTO's reference point z0: how far the policy has moved from the reference on completions of other prompts.

The paper (Ethayarajh et al., 2402.01306, section 4.2) takes the divergence KL(pi, ref) as a point from which gains and
losses are counted. It estimates it in each batch by completions that are not their prompts':

    z0 = max(0, mean of log pi(y'|x) - log ref(y'|x))

TRL pairs each prompt with the completion of a neighbour before training, and so does this module: the next one of
another prompt in the order of the first epoch. So the reference of each is computed once. The mean is over all
completions of an optimizer step, whatever the rows and processes. No gradient goes through it.
"""

from collections.abc import Sequence
from dataclasses import replace

from training.engine.data.tokens import EncodedPair
from training.engine.errors import ConfigError
from training.engine.optimize.reference import shared_logps
from training.engine.optimize.task import Task


def mismatch(
    pairs: Sequence[EncodedPair], heldout: Sequence[EncodedPair], order: Sequence[int], max_length: int
) -> list[EncodedPair]:
    """Return for each of the pairs, then of the held-out ones, its prompt with the completions of another prompt.

    `order` are positions in `pairs`, whose completions are taken, also for held-out prompts. What would be longer than
    `max_length` loses its end. Raises ConfigError if all prompts are the same.
    """
    donors = [pairs[at] for at in order]
    after = _next_of_another_prompt(donors)
    taken: list[EncodedPair] = [*pairs, *heldout]
    for place, at in enumerate(order):
        taken[at] = donors[after[place]]
    for number, pair in enumerate(heldout):
        place = number % len(donors)
        donor = donors[place]
        taken[len(pairs) + number] = donors[after[place]] if donor.prompt == pair.prompt else donor
    return [
        replace(
            pair,
            chosen=donor.chosen[: max_length - len(pair.prompt)],
            rejected=donor.rejected[: max_length - len(pair.prompt)],
        )
        for pair, donor in zip([*pairs, *heldout], taken, strict=True)
    ]


def _next_of_another_prompt(pairs: Sequence[EncodedPair]) -> list[int]:
    """Return for each position the next one, round and round, whose prompt differs. Raises ConfigError."""
    if all(pair.prompt == pairs[0].prompt for pair in pairs):
        raise ConfigError(
            "loss",
            "'kto' needs pairs of two prompts or more: z0 is measured on completions of other prompts.",
        )
    count = len(pairs)
    found = [0] * count
    for place in reversed(range(2 * count)):  # the second round knows what follows the last one
        here, follower = place % count, (place + 1) % count
        differs = pairs[here].prompt != pairs[follower].prompt
        found[here] = follower if differs else found[follower]
    return found


def reference_point(task: Task, members: Sequence[int]) -> float:
    """Return z0 of the pairs at positions `members` of all, in nats; the same in every process. Dropout is off."""
    groups = task.scorer.groups(task.mismatched, members, at_least=task.processes.world)
    places = [at for group in groups for at in group]
    logps = shared_logps(task.scorer, task.mismatched, groups, task.processes)
    gains = logps - task.mismatched_reference[places]
    count = sum(len(task.mismatched[at].completions) for at in places)
    return max(0.0, float(gains.sum()) / count)
