"""The recipes that are compared: what becomes of judged comparisons until there is an adapter."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.controlled import world
from benchmarks.controlled.people import HONEST
from benchmarks.controlled.policies import train_policy
from benchmarks.controlled.probing import fit_probe, rate
from benchmarks.controlled.world import Project, Written, judged_rows, training_row
from training.engine.assisting.choosing import Rated, choose_pairs
from training.engine.assisting.tilting import find_strength
from training.engine.assisting.verb import ASSISTED, DRAFTED
from training.engine.config import AssistConfig
from training.engine.records import SamplingPrompt
from training.engine.sample import encode_prompts, load_native, write_samples

Reward = Callable[[str], float]
# Of the starter, as rounds had them before the reference was fixed.
_COMMON: dict[str, Any] = {
    "learning_rate": 1e-3,
    "schedule": "linear",
    "warmup_steps": 5,
    "epochs": 4,
    "batch_size": 8,
    "lora": {"r": 8, "alpha": 16},
}
_ASSISTED: dict[str, Any] = {"beta": 0.5, "epochs": 2, "batch_size": 24, "learning_rate": 2e-3}
_CLEARLY, _MUCH = 0.4, 1.0  # differences in reward of the strengths "better" and "much better"


@dataclass(frozen=True)
class Recipe:
    """Settings of training, and which pairs it is given."""

    training: dict[str, Any] = field(default_factory=dict)
    # Labels of a round that starts from the last policy and measures against it.
    round_size: int | None = None
    margins: bool = False  # a third of a nat per step of strength
    assist: AssistConfig | None = None  # pairs that a probe labels, beside the judged ones

    def settings(self) -> dict[str, Any]:
        """Return the engine's settings."""
        return _COMMON | self.training


RECIPES: dict[str, Recipe] = {
    # Three rounds of 150: each starts from the last adapter, measures against it, and takes all pairs.
    "moving reference, margins": Recipe({"beta": 0.1}, round_size=150, margins=True),
    "beta 0.1, margins": Recipe({"beta": 0.1}, margins=True),
    "beta 0.1": Recipe({"beta": 0.1}),
    "beta 0.3": Recipe({"beta": 0.3}),
    "beta 0.5": Recipe({"beta": 0.5}),
    "beta 0.1, smoothing 0.25": Recipe({"beta": 0.1, "label_smoothing": 0.25}),
    "assisted": Recipe(_ASSISTED, assist=AssistConfig(pairs=6000, candidates=12, kl=2.7, drafted=0.5)),
    "assisted, no draft": Recipe(_ASSISTED, assist=AssistConfig(pairs=6000, candidates=12)),
}


def train_recipe(recipe: Recipe, project: Project, reward: Reward, folder: Path) -> Path:
    """Return the adapter that `recipe` makes of a project's judgments."""
    if recipe.round_size:
        return _train_in_rounds(recipe, project, reward, folder)
    rows = judged_rows(project.judged)
    if recipe.margins:
        _add_margins(rows, reward)
    if recipe.assist:
        rows += assisted_rows(recipe, project, folder)
    return train_policy(folder, rows, recipe.settings(), project.seed)


def assisted_rows(recipe: Recipe, project: Project, folder: Path) -> list[dict[str, Any]]:
    """Return the pairs that the verb `assist` would make of the project, by the same choice."""
    settings, posterior = recipe.assist, fit_probe(project.judged)
    assert settings

    def write_by_draft(rows: list[dict[str, Any]]) -> list[list[Rated]]:
        judged = judged_rows(project.judged)
        draft = train_policy(folder / "draft", judged + rows, recipe.settings(), project.seed)
        asked = project.unjudged[: settings.count_groups(settings.drafted_pairs)]
        prompts = [samples[0].prompt for samples in asked]
        written = write(draft, prompts, each=settings.candidates, seed=project.seed)
        return in_groups(rate(posterior, written), settings.candidates)

    count = settings.count_groups(settings.pairs - settings.drafted_pairs)
    return labelled_rows(
        settings, [rate(posterior, samples) for samples in project.unjudged[:count]], write_by_draft
    )


Item = TypeVar("Item")
Draft = Callable[[list[dict[str, Any]]], Sequence[Sequence[Rated]]]


def labelled_rows(
    settings: AssistConfig, rated: Sequence[Sequence[Rated]], draft: Draft
) -> list[dict[str, Any]]:
    """Return the pairs of rated completions, by prompt, with gaps of the policy that their scores describe.

    `draft` returns what a policy writes that was trained on the rows so far, rated, by prompt. The line of each
    completion has it as `written`.
    """
    strength = find_strength([[one.score for one in some] for some in rated], settings.kl)
    rows = _with_gaps(ASSISTED, settings, rated, strength)[: settings.pairs - settings.drafted_pairs]
    if settings.drafted_pairs:
        rows += _with_gaps(DRAFTED, settings, draft(rows), strength)[: settings.drafted_pairs]
    return rows


def _with_gaps(
    kind: str, settings: AssistConfig, rated: Sequence[Sequence[Rated]], strength: float
) -> list[dict[str, Any]]:
    choices = [choice for some in rated for choice in choose_pairs(some, settings.candidates)]
    return [
        training_row(
            f"{kind}-{number}",
            choice.best.line["written"],
            choice.worst.line["written"],
            label=choice.label,
            weight=settings.weight,
            gap=strength * (choice.best.score - choice.worst.score),
        )
        for number, choice in enumerate(choices)
    ]


def _train_in_rounds(recipe: Recipe, project: Project, reward: Reward, folder: Path) -> Path:
    """Train round after round on what the last policy wrote, each from it and against it, on all pairs so far."""
    adapter: Path | None = None
    rows: list[dict[str, Any]] = []
    rng = random.Random(f"rounds {project.seed}")
    size = recipe.round_size or len(project.judged)
    for number, start in enumerate(range(0, len(project.judged), size)):
        judged = project.judged[start : start + size]
        if adapter:
            prompts = [one.first.prompt for one in judged]
            written = write(adapter, prompts, each=2, seed=project.seed, distinct=True)
            pairs = [(first, second) for first, second in in_groups(written, 2)]
            judged = world.judge(pairs, reward, rng, HONEST)
        new = judged_rows(judged)
        if recipe.margins:
            _add_margins(new, reward)
        rows += [row | {"id": f"{number}-{row['id']}"} for row in new]
        start_adapter = {"start_adapter": str(adapter)} if adapter else {}
        adapter = train_policy(folder / str(number), rows, recipe.settings() | start_adapter, project.seed)
    assert adapter
    return adapter


def write(
    adapter: Path, prompts: Sequence[str], *, each: int, seed: int, distinct: bool = False
) -> list[Written]:
    """Return so many completions of each prompt by a policy, one prompt behind the other."""
    config = world.settings(sampling={"samples_per_prompt": each, "seed": seed, "distinct": distinct})
    loaded, decoder = load_native(config, adapter)
    asked = [SamplingPrompt(str(at), text) for at, text in enumerate(prompts)]
    encoded, _, _ = encode_prompts(asked, loaded, config, loaded.make_encoder(config))
    found = [
        Written(-1, str(one.prompt.prompt), one.text, one.request.prompt, *_kept(one))
        for one in write_samples(decoder, loaded.tokenizer, encoded, config.sampling)
    ]
    decoder.release()
    return found


def in_groups(items: Sequence[Item], each: int) -> list[list[Item]]:
    """Return items in lists of `each`."""
    return [list(items[start : start + each]) for start in range(0, len(items), each)]


def _kept(one: Any) -> tuple[tuple[int, ...], str]:
    return one.generation.token_ids, one.generation.finish_reason


def _add_margins(rows: list[dict[str, Any]], reward: Reward) -> None:
    for row in rows:
        size = abs(reward(row["chosen"]) - reward(row["rejected"]))
        row["margin"] = (1 + (size >= _CLEARLY) + (size >= _MUCH)) / 3
