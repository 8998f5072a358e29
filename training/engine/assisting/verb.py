"""The verb `assist`: fresh completions of the reference, rated by a probe, become pairs beside the judged ones.

It runs the verbs `probe`, `sample` and `rate` in a run directory of its own, `assist/`, each once: what an interrupted
run has finished there is not done again. Part of the pairs may be of completions that a draft wrote, a policy that is
trained in `assist/draft/`. The base model, the probe and the run's pairs decide alone, so the labelled pairs derive
from the votes that these were made of, and from nothing else.
"""

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from training.engine.adapters.loading import reference_adapter
from training.engine.assisting.choosing import Choice, Rated, choose_pairs
from training.engine.assisting.drafting import train_draft
from training.engine.assisting.prompting import count_completions, write_prompts
from training.engine.assisting.tilting import find_strength, largest_kl
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, DataError
from training.engine.probe.base_reader import base_digests
from training.engine.probe.probing import fit_run
from training.engine.probe.rating import rate
from training.engine.probe.storage import load_probe
from training.engine.probe.votes import read_votes
from training.engine.records import SamplingPrompt, read_prompts
from training.engine.rundir import RunDirectory, read_jsonl, storing, write_jsonl
from training.engine.sample import sample

ASSISTED, DRAFTED = "assisted", "drafted"  # the ids of pairs begin so, by who wrote the completions
NO_VOTES = "There is no preference to fit a probe to, so it labels nothing."
NO_SKILL = "The probe foretells votes on unseen prompts no better than chance, so it labels nothing."
NO_KL = "The completions are too few, or their scores too alike, to describe a policy, so the probe labels nothing."


@dataclass(frozen=True)
class Labels:
    """The lines of assisted_pairs.jsonl. `kl` is in nats, of the policy that their gaps describe; 0 is none."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    completions: int = 0  # that were written
    kl: float = 0.0


def assist(run: RunDirectory) -> None:
    """Write assisted_pairs.jsonl for the prompts of the run, then done.json. Raises EngineError subclasses.

    A probe without held-out skill labels nothing, and neither does one whose scores do not differ: the file is empty
    then, and done.json says why.
    """
    config = run.read_config()
    if not config.assist.pairs:
        raise ConfigError("assist.pairs", "is 0: say how many pairs the probe is to label.")
    with run.locked():
        started = time.monotonic()
        run.progress("loading")
        inner = open_inner(run)
        folder = Path(config.probe) if config.probe else (inner if inner.votes.exists() else run).probe
        write_inner(run, inner, config, folder)
        inputs = run.hashes([run.config_file, run.pairs, inner.votes, inner.prompts])
        skill, labels = None, Labels()
        if not (why := fit_if_asked(inner)):
            probe = load_probe(folder, base_digests(config))
            skill, why = probe.about["skill"], "" if probe.has_skill else NO_SKILL
            if not why:
                labels = label_pairs(run, inner, config, folder)
                why = "" if labels.kl else NO_KL
        rows, events = labels.rows, explain_kl(labels.kl, config.assist.kl)
        write_jsonl(run.assisted_pairs, rows)
        summary = {
            "status": "skipped" if why else "assisted",
            **({"reason": why} if why else {}),
            "pairs": len(rows),
            "drafted": sum(row["id"].startswith(DRAFTED) for row in rows),
            "prompts": len({tuple(row["id"].split(" ")[1:-1]) for row in rows}),
            "completions": labels.completions,
            "mean_label": statistics.fmean(row["label"] for row in rows) if rows else None,
            "kl": labels.kl or None,
            "skill": skill,
            "events": events,
            "seconds": round(time.monotonic() - started, 3),
        }
        run.finish("assist", summary, inputs | run.hashes([folder]), [run.assisted_pairs])
        run.progress("done", len(rows), len(rows))
    for said in [why, *events]:
        if said:
            print(said, file=sys.stderr)


def explain_kl(kl: float, wanted: float) -> list[str]:
    """Return what is to be said where the labels describe a smaller KL than the one that is wanted."""
    if not kl or kl >= wanted:
        return []
    return [
        f"The labels describe a KL of {kl:.2f} nats, not assist.kl ({wanted:g}): so few completions show no more."
        " Raise assist.pairs to have more written."
    ]


def open_inner(run: RunDirectory) -> RunDirectory:
    """Return the run directory in which the reference writes. Its progress is that of the run."""
    inner = RunDirectory(run.root / "assist")
    inner.progress_file = run.progress_file
    with storing(inner.root):
        inner.root.mkdir(exist_ok=True)
    return inner


def fit_if_asked(inner: RunDirectory) -> str:
    """Fit a probe where the caller put votes, unless it is. Return why it cannot be, or ""."""
    if not inner.votes.exists():
        return ""
    if not any(one.is_decided for one in read_votes(inner.votes)):
        return NO_VOTES
    if not is_current(inner, "probe", [inner.votes]):
        fit_run(inner)
    return ""


def label_pairs(run: RunDirectory, inner: RunDirectory, config: TrainConfig, folder: Path) -> Labels:
    """Return the lines of assisted_pairs.jsonl, those of the reference's completions before those of a draft's.

    Their gaps are those of the policy that the scores of the reference's completions describe at `assist.kl`, or at the
    largest KL that so many can show.
    """
    settings = config.assist
    prompts = {one.id: one for one in read_prompts(inner.prompts)}
    rated = write_and_rate(inner, folder)
    scores = [[one.score for one in some] for some in rated.values()]
    kl = min(settings.kl, largest_kl(scores))
    strength = find_strength(scores, kl) if kl else 0.0

    def rows_of(kind: str, rated: dict[str, list[Rated]], pairs: int) -> list[dict[str, Any]]:
        chosen = choose_rounds(rated, settings.candidates)[:pairs]
        return [
            {"id": f"{kind} {name} {turn}", "weight": settings.weight}
            | as_row(prompts[name], choice, strength)
            for name, turn, choice in chosen
        ]

    writers = [inner]
    rows = rows_of(ASSISTED, rated, settings.pairs - settings.drafted_pairs) if kl else []
    if settings.drafted_pairs and rows:
        written_for = [one for name, one in prompts.items() if name in rated]
        draft = train_draft(run, config, written_for, rows, folder)
        rows += rows_of(DRAFTED, write_and_rate(draft, folder), settings.drafted_pairs)
        writers.append(draft)
    return Labels(rows, sum(one.read_done()["sample"]["completions"] for one in writers), kl)


def write_and_rate(run: RunDirectory, folder: Path) -> dict[str, list[Rated]]:
    """Let a policy write for the prompts of its run directory, and return what the probe rates, by prompt."""
    writer = [run.adapter] if run.adapter.exists() else []
    if not is_current(run, "sample", [run.config_file, run.prompts, *writer]):
        sample(run)
    if not is_current(run, "rate", [run.config_file, run.samples, folder]):
        rate(run)
    found: dict[str, list[Rated]] = {}
    for (_, line), (_, rating) in zip(read_jsonl(run.samples), read_jsonl(run.ratings), strict=True):
        if rating["score"] is not None:
            found.setdefault(line["id"], []).append(Rated(line, rating["score"], rating["sd"]))
    return found


def write_inner(run: RunDirectory, inner: RunDirectory, config: TrainConfig, probe: Path) -> None:
    """Write settings and prompts of the run directory in which the reference writes. Raises DataError.

    The prompts are those that the caller put there, or those of the pairs.
    """
    write_prompts(inner, run, config.assist)
    count = sum(1 for _ in read_prompts(inner.prompts))
    if not count:
        raise DataError(f"There is no prompt to write for in {inner.prompts} or {run.pairs.name}.")
    adapter = reference_adapter(config)
    sampling = replace(
        config.sampling,
        policy="start" if adapter else "base",
        samples_per_prompt=count_completions(config.assist, count),
        seed=config.assist.seed,
        reference=None,
        skip_long=True,
    )
    inner.write_config(
        replace(config, start_adapter=adapter, reference="start", probe=str(probe), sampling=sampling)
    )


def is_current(run: RunDirectory, verb: str, files: Sequence[Path]) -> bool:
    """Return whether a verb has ended in a run directory with what these files hold now."""
    known = run.read_done().get(verb, {}).get("inputs", {})
    return bool(known) and run.hashes(files).items() <= known.items()


def choose_rounds(rated: dict[str, list[Rated]], candidates: int) -> list[tuple[str, int, Choice]]:
    """Return the pairs with their prompt's id and turn, round after round over the prompts."""
    choices = {name: list(choose_pairs(some, candidates)) for name, some in rated.items()}
    turns = max(map(len, choices.values()), default=0)
    return [
        (name, turn, choices[name][turn])
        for turn in range(turns)
        for name in choices
        if turn < len(choices[name])
    ]


def as_row(prompt: SamplingPrompt, choice: Choice, strength: float) -> dict[str, Any]:
    """Return a line of assisted_pairs.jsonl, but for its id and weight: a pair with the scores of both completions."""
    best, worst = choice.best, choice.worst
    return {
        "prompt": prompt.prompt,
        **({"tools": prompt.tools} if prompt.tools else {}),
        "chosen": best.line["completion"],
        "rejected": worst.line["completion"],
        "label": round(choice.label, 6),
        "gap": round(strength * (best.score - worst.score), 6),
        "prompt_token_ids": best.line["prompt_token_ids"],
        "chosen_token_ids": best.line["token_ids"],
        "rejected_token_ids": worst.line["token_ids"],
        "chosen_finish_reason": best.line["finish_reason"],
        "rejected_finish_reason": worst.line["finish_reason"],
        "chosen_score": best.score,
        "rejected_score": worst.score,
    }
