"""The runs of a paper: each makes one file of figures in its world's folder, and is not repeated where that exists.

Runs of one stage need nothing of each other, so they go side by side, one process for each core.
"""

import functools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.paper import methods, ppo, reward_model
from benchmarks.paper.actor import Actor, Written
from benchmarks.paper.judges import FIRST, SECOND, TIE, EndpointJudge, Judge, WordJudge
from benchmarks.paper.paths import find_path
from benchmarks.paper.world import World

Figures = dict[str, Any]
TEMPERATURES = (0.0, 0.25, 0.5, 0.75, 1.0)
BEST_OF = 8
DPO, PPO = "dpo beta 0.1", "ppo learnt beta 0.1"  # those that stand for their method beside others
FT = "preferred-ft"
COMPARED = (DPO, PPO, FT)
ASSISTED = "assisted"
BASE, BEST = "base", "best of n"
BY_TEMPERATURE = (BASE, BEST, *COMPARED, ASSISTED)
BY_KIND = (BASE, *COMPARED, ASSISTED)  # of prompts


@dataclass(frozen=True)
class Method:
    """One point of the frontier: `make` returns its adapter in a folder, from all prompts or from `seen` kinds."""

    name: str
    family: str
    make: Callable[[World, Path, bool], Path]


def _dpo(beta: float) -> Method:
    def make(world: World, folder: Path, seen: bool) -> Path:
        return methods.dpo(world, folder, world.preferences(seen=seen), beta=beta)

    return Method(f"dpo beta {beta}", "DPO", make)


def _unlikelihood(alpha: float) -> Method:
    def make(world: World, folder: Path, seen: bool) -> Path:
        return methods.unlikelihood(world, folder, world.preferences(seen=seen), alpha, epochs=2)

    return Method(f"unlikelihood alpha {alpha}", "unlikelihood", make)


def _preferred_ft(world: World, folder: Path, seen: bool) -> Path:
    return methods.preferred_ft(world, folder, world.preferences(seen=seen), epochs=4)


def _ppo(beta: float, *, learnt: bool) -> Method:
    def make(world: World, folder: Path, seen: bool) -> Path:
        score = learnt_reward(world, seen=seen).score if learnt else functools.partial(true_scores, world)
        prompts = [one.prompt for one in world.learnable(seen=seen)]
        return ppo.train(world, folder, score, prompts, ppo.Options(beta=beta))

    kind = "learnt" if learnt else "true"
    return Method(f"ppo {kind} beta {beta}", f"PPO, {kind} reward", make)


def _moving(world: World, folder: Path, seen: bool) -> Path:
    return methods.moving_rounds(world, folder, beta=0.1)


def _assisted(world: World, folder: Path, seen: bool) -> Path:
    return methods.assisted(world, folder, learnt_reward(world, seen=seen), seen=seen)


# In the order in which they are run: what stands for its method comes first.
METHODS = {
    one.name: one
    for one in (
        _dpo(0.1),
        Method(FT, "Preferred-FT", _preferred_ft),
        _ppo(0.1, learnt=True),
        _ppo(0.1, learnt=False),
        Method(ASSISTED, "DPO, assisted", _assisted),
        Method("moving reference", "rounds, moving reference", _moving),
        _unlikelihood(0.02),
        *map(_dpo, (0.3, 1.0, 0.05)),
        _unlikelihood(0.2),
        *(_ppo(0.5, learnt=learnt) for learnt in (True, False)),
    )
}


def stages(endpoint: EndpointJudge | None) -> Iterator[dict[str, Callable[[World], Figures]]]:
    """Yield the runs of each stage by name."""
    yield {"base": base_figures}
    yield {f"policy {name}": functools.partial(policy_figures, name=name) for name in METHODS} | {
        f"general {name}": functools.partial(general_figures, name=name) for name in BY_KIND
    }
    last: dict[str, Callable[[World], Figures]] = {
        f"temperature {name}": functools.partial(temperature_figures, name=name) for name in BY_TEMPERATURE
    }
    last["judge words"] = words_figures
    if endpoint:
        last["judge endpoint"] = functools.partial(endpoint_figures, judge=endpoint)
    yield last


def run(world: World, name: str, make: Callable[[World], Figures]) -> Figures:
    """Return the figures of a run, from its file if it was made before."""
    file = world.folder / f"{name}.json"
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_text(json.dumps(make(world)))
        part.rename(file)
    return load(world, name)


def has(world: World, name: str) -> bool:
    """Return whether a run was made."""
    return (world.folder / f"{name}.json").exists()


def load(world: World, name: str) -> Figures:
    """Return the figures of a run that was made."""
    return dict(json.loads((world.folder / f"{name}.json").read_text()))


def load_each(worlds: Sequence[World], name: str) -> list[Figures]:
    """Return a run's figures in those worlds that have made it."""
    return [load(world, name) for world in worlds if has(world, name)]


def learnt_reward(world: World, *, seen: bool = False) -> reward_model.RewardModel:
    """Return the reward model of the judged pairs."""
    file = world.folder / f"reward{'-seen' if seen else ''}.npy"
    return reward_model.load_or_fit(file, Actor(world.setting), world.preferences(seen=seen))


def true_scores(world: World, written: Sequence[Written]) -> list[float]:
    """Return true rewards in units of their standard deviation over the base model's samples, as the learnt one has."""
    return [world.setting.reward(one.text) / true_deviation(world) for one in written]


@functools.lru_cache(maxsize=4)
def true_deviation(world: World) -> float:
    """Return the standard deviation of the true reward over the base model's samples."""
    rewards = [world.setting.reward(one.text) for group in world.base_samples for one in group]
    mean = sum(rewards) / len(rewards)
    return float((sum((one - mean) ** 2 for one in rewards) / len(rewards)) ** 0.5) or 1.0


def base_figures(world: World) -> Figures:
    """Return rewards and learnt scores of the base model's samples, by prompt. It makes what other runs begin with."""
    model = learnt_reward(world)
    learnt_reward(world, seen=True)
    each = world.setting.counts.samples
    scores = model.score([one for group in world.base_samples for one in group])
    return {
        "rewards": [[world.setting.reward(one.text) for one in group] for group in world.base_samples],
        "scores": [scores[at : at + each] for at in range(0, len(scores), each)],
        "pairs": len(world.preferences()),
    }


def policy_figures(world: World, name: str) -> Figures:
    """Return rewards and KLs of a method's policy on the fresh prompts, along its path from small scales to 1."""
    actor = Actor(world.setting, adapter=make_adapter(world, name))
    prompts = [one.prompt for one in world.fresh]

    points = [
        {
            "scale": scale,
            "rewards": list(map(world.setting.reward, found.texts)),
            "kls": found.kls,
            "texts": found.texts,
        }
        for scale, found in find_path(
            lambda scale: actor.measure(prompts, seed=1000 * world.seed + 21, scale=scale)
        )
    ]
    return {"family": METHODS[name].family, "points": points}


def make_adapter(world: World, name: str, *, seen: bool = False) -> Path:
    """Return the adapter of a method, trained the first time."""
    folder = world.folder / f"{name}{' seen' if seen else ''}"
    adapter = folder / "adapter"
    return adapter if adapter.is_dir() else METHODS[name].make(world, folder, seen)


def temperature_figures(world: World, name: str) -> Figures:
    """Return wins against the references at each temperature of a method's policy. A tie is half a win."""
    wins = {}
    for temperature, texts in zip(TEMPERATURES, texts_by_temperature(world, name), strict=True):
        wins[str(temperature)] = [
            win(world.setting.reward(one) - world.setting.reward(other))
            for one, other in zip(texts, references(world), strict=True)
        ]
    return {"wins": wins}


def texts_by_temperature(world: World, name: str) -> Iterator[list[str]]:
    """Yield completions of the fresh prompts at each of the temperatures.

    BEST takes the best of the base model's samples by the learnt reward. What a method wrote at temperature 1 for its
    point of the frontier serves here too.
    """
    actor = Actor(world.setting, adapter=make_adapter(world, name) if name in METHODS else None)
    model = learnt_reward(world) if name == BEST else None
    for temperature in TEMPERATURES:
        if name in METHODS and temperature == 1:
            points = run(world, f"policy {name}", functools.partial(policy_figures, name=name))["points"]
            yield points[-1]["texts"]
            continue
        each = BEST_OF if model and temperature else 1
        prompts = [one.prompt for one in world.fresh]
        written = actor.write(prompts, each=each, seed=1000 * world.seed + 31, temperature=temperature)
        chosen = _best(model, written) if model else [group[0] for group in written]
        yield [one.text for one in chosen]


def _best(model: reward_model.RewardModel, written: Sequence[Sequence[Written]]) -> list[Written]:
    """Return the completion of each prompt that the learnt reward prefers."""
    scores = iter(model.score([one for group in written for one in group]))
    scored = [[(next(scores), at) for at in range(len(group))] for group in written]
    return [group[max(both)[1]] for group, both in zip(written, scored, strict=True)]


def references(world: World) -> list[str]:
    """Return the texts that completions of the fresh prompts are compared with.

    They are the data's own, or where there is none, the base model's.
    """
    return [
        example.reference if example.reference is not None else group[-1].text
        for example, group in zip(world.fresh, world.base_samples, strict=True)
    ]


def general_figures(world: World, name: str) -> Figures:
    """Return rewards on kinds of prompts that the training saw and on others."""
    adapter = make_adapter(world, name, seen=True) if name in METHODS else None
    found = Actor(world.setting, adapter=adapter).measure(
        [one.prompt for one in world.measured], seed=1000 * world.seed + 41
    )
    figures: Figures = {"seen": [], "unseen": [], "kls seen": [], "kls unseen": []}
    for example, text, kl in zip(world.measured, found.texts, found.kls, strict=True):
        kind = "unseen" if world.is_unseen(example) else "seen"
        figures[kind].append(world.setting.reward(text))
        figures[f"kls {kind}"].append(kl)
    return figures


def words_figures(world: World) -> Figures:
    """Return verdicts of people, the truth and the weak classifier, and how the latter calls policies' wins."""
    judge = word_judge(world)
    figures = _verdicts(world, judge)
    texts = references(world)
    prompts = [one.prompt for one in world.fresh]
    for name in filter(lambda one: has(world, f"policy {one}"), COMPARED):
        points = load(world, f"policy {name}")["points"]
        written = points[-1]["texts"]
        told = [judge.compare(*three) for three in zip(prompts, written, texts, strict=True)]
        figures[f"told {name}"] = [{FIRST: 1.0, TIE: 0.5, SECOND: 0.0}[one] for one in told]
        figures[f"true {name}"] = [
            win(world.setting.reward(one) - world.setting.reward(other))
            for one, other in zip(written, texts, strict=True)
        ]
    return figures


def endpoint_figures(world: World, judge: EndpointJudge) -> Figures:
    """Return verdicts of people, the truth and a model behind an endpoint."""
    return _verdicts(world, judge) | {"model": judge.model}


def word_judge(world: World) -> WordJudge:
    """Return a classifier that has read some texts labelled good or bad: the data's own, or the base model's."""
    count = world.setting.counts.classified
    given = [one.reference for one in world.pool if one.reference is not None]
    texts = given or [one.text for group in world.base_samples for one in group[-4:]]
    labelled = [(text, reward) for text in texts if (reward := world.setting.reward(text))][:count]
    return WordJudge([text for text, _ in labelled], [reward > 0 for _, reward in labelled])


def _verdicts(world: World, judge: Judge) -> Figures:
    """Return verdicts on pairs of the base model's samples: of each annotator, of the true reward, of the judge."""
    rng = random.Random(f"judged {world.seed}")
    pairs = [
        (example.prompt, group[at].text, group[at + 1].text)
        for at in (0, 2)
        for example, group in zip(world.fresh, world.base_samples, strict=True)
    ][: world.setting.counts.judged]
    reward = world.setting.reward
    gaps = [reward(first) - reward(second) for _, first, second in pairs]
    return {
        **{person.name: [person.judge(gap, rng) for gap in gaps] for person in world.people},
        "truth": [TIE if gap == 0 else FIRST if gap > 0 else SECOND for gap in gaps],
        "judge": [judge.compare(*pair) for pair in pairs],
    }


def win(difference: float) -> float:
    """Return 1 for a win, one half for a tie, 0 for a loss."""
    return 1.0 if difference > 0 else 0.5 if difference == 0 else 0.0
