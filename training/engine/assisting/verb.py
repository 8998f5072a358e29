"""The verb `assist`: fresh completions of the reference, rated by a probe, become pairs beside the judged ones.

It runs the verbs `probe`, `sample` and `rate` in a run directory of its own, `assist/`, each once: what an interrupted
run has finished there is not done again. The base model and the probe decide alone, so the pairs derive from the votes
that the probe was fitted to, and from nothing else.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.engine.adapters.loading import reference_adapter
from training.engine.assisting.choosing import Choice, Rated, choose_pairs
from training.engine.assisting.tilting import find_strength
from training.engine.config import AssistConfig, TrainConfig
from training.engine.errors import ConfigError, DataError
from training.engine.probe.base_reader import base_digests
from training.engine.probe.probing import fit_run
from training.engine.probe.rating import rate
from training.engine.probe.storage import load_probe
from training.engine.probe.votes import read_votes
from training.engine.records import SamplingPrompt, read_pairs, read_prompts
from training.engine.rundir import RunDirectory, read_jsonl, storing, write_jsonl
from training.engine.sample import sample

NO_VOTES = "There is no preference to fit a probe to, so it labels nothing."
NO_SKILL = "The probe foretells votes on unseen prompts no better than chance, so it labels nothing."
_SOURCE = "pairs"  # of prompts that are not the caller's


def assist(run: RunDirectory) -> None:
    """Write assisted_pairs.jsonl for the prompts of the run, then done.json. Raises EngineError subclasses.

    A probe without held-out skill labels nothing: the file is empty then, and done.json says why.
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
        skill = None
        if why := fit_if_asked(inner):
            rows = []
        else:
            probe = load_probe(folder, base_digests(config))
            skill, why = probe.about["skill"], "" if probe.has_skill else NO_SKILL
            rows = [] if why else label_pairs(inner, config, folder)
        write_jsonl(run.assisted_pairs, rows)
        summary = {
            "status": "skipped" if why else "assisted",
            **({"reason": why} if why else {}),
            "pairs": len(rows),
            "prompts": len({row["id"].rpartition(" ")[0] for row in rows}),
            "completions": 0 if why else inner.read_done()["sample"]["completions"],
            "mean_label": statistics.fmean(row["label"] for row in rows) if rows else None,
            "skill": skill,
            "seconds": round(time.monotonic() - started, 3),
        }
        run.finish("assist", summary, inputs | run.hashes([folder]), [run.assisted_pairs])
        run.progress("done", len(rows), len(rows))
    if why:
        print(why, file=sys.stderr)


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


def label_pairs(inner: RunDirectory, config: TrainConfig, folder: Path) -> list[dict[str, Any]]:
    """Let the reference write and the probe rate, and return the lines of assisted_pairs.jsonl."""
    if not is_current(inner, "sample", [inner.config_file, inner.prompts]):
        sample(inner)
    if not is_current(inner, "rate", [inner.config_file, inner.samples, folder]):
        rate(inner)
    prompts = {one.id: one for one in read_prompts(inner.prompts)}
    return list(assisted_rows(inner, prompts, config))


def write_inner(run: RunDirectory, inner: RunDirectory, config: TrainConfig, probe: Path) -> None:
    """Write settings and prompts of the run directory in which the reference writes. Raises DataError.

    The prompts are those that the caller put there, or those of the pairs.
    """
    if not inner.prompts.exists() or is_derived(inner.prompts):
        write_prompts(inner, run, config.assist)
    count = sum(1 for _ in read_prompts(inner.prompts))
    if not count:
        raise DataError(f"There is no prompt to write for in {inner.prompts} or {run.pairs.name}.")
    adapter = reference_adapter(config)
    groups = math.ceil(config.assist.groups / count)
    sampling = replace(
        config.sampling,
        policy="start" if adapter else "base",
        samples_per_prompt=groups * config.assist.candidates,
        seed=config.assist.seed,
        reference=None,
        skip_long=True,
    )
    inner.write_config(
        replace(config, start_adapter=adapter, reference="start", probe=str(probe), sampling=sampling)
    )


def is_derived(prompts: Path) -> bool:
    """Return whether `write_prompts` wrote a file, and not the caller."""
    return all(row.get("source") == _SOURCE for _, row in read_jsonl(prompts))


def write_prompts(inner: RunDirectory, run: RunDirectory, settings: AssistConfig) -> None:
    """Write the prompts of the pairs that are trained on, each once, with how many completions each needs.

    They are spread over the prompts. Where few pairs are asked for, the last prompts need none.
    """
    found: dict[str, dict[str, Any]] = {}
    for pair in read_pairs(run.pairs):
        key = json.dumps([pair.prompt, pair.tools], sort_keys=True)
        tools = {"tools": pair.tools} if pair.tools else {}
        found.setdefault(key, {"id": pair.id, "prompt": pair.prompt, **tools})
    each, more = divmod(settings.groups, max(1, len(found)))
    turns = [each + (place < more) for place in range(len(found))]
    write_jsonl(
        inner.prompts,
        (
            prompt | {"n": turn * settings.candidates, "source": _SOURCE}
            for prompt, turn in zip(found.values(), turns, strict=True)
            if turn
        ),
    )


def is_current(run: RunDirectory, verb: str, files: Sequence[Path]) -> bool:
    """Return whether a verb has ended in a run directory with what these files hold now."""
    known = run.read_done().get(verb, {}).get("inputs", {})
    return bool(known) and run.hashes(files).items() <= known.items()


def assisted_rows(
    inner: RunDirectory, prompts: dict[str, SamplingPrompt], config: TrainConfig
) -> Iterator[dict[str, Any]]:
    """Yield the lines of assisted_pairs.jsonl, at most `assist.pairs`, round after round over the prompts.

    Their gaps are those of the policy that the scores describe at a KL of `assist.kl`.
    """
    by_prompt: dict[str, list[Rated]] = {}
    for (_, line), (_, rating) in zip(read_jsonl(inner.samples), read_jsonl(inner.ratings), strict=True):
        if rating["score"] is not None:
            by_prompt.setdefault(line["id"], []).append(Rated(line, rating["score"], rating["sd"]))
    scores = [[one.score for one in rated] for rated in by_prompt.values()]
    strength = find_strength(scores, config.assist.kl)
    choices = {name: list(choose_pairs(rated, config.assist.candidates)) for name, rated in by_prompt.items()}
    turns = max(map(len, choices.values()), default=0)
    wanted = [
        (name, turn, choices[name][turn])
        for turn in range(turns)
        for name in choices
        if turn < len(choices[name])
    ]
    for name, turn, choice in wanted[: config.assist.pairs]:
        yield as_row(prompts[name], turn, choice, config.assist.weight, strength)


def as_row(
    prompt: SamplingPrompt, turn: int, choice: Choice, weight: float, strength: float
) -> dict[str, Any]:
    """Return a line of assisted_pairs.jsonl: a line of pairs.jsonl with the scores of both completions."""
    best, worst = choice.best, choice.worst
    return {
        "id": f"assisted {prompt.id} {turn}",
        "prompt": prompt.prompt,
        **({"tools": prompt.tools} if prompt.tools else {}),
        "chosen": best.line["completion"],
        "rejected": worst.line["completion"],
        "label": round(choice.label, 6),
        "gap": round(strength * (best.score - worst.score), 6),
        "weight": weight,
        "prompt_token_ids": best.line["prompt_token_ids"],
        "chosen_token_ids": best.line["token_ids"],
        "rejected_token_ids": worst.line["token_ids"],
        "chosen_finish_reason": best.line["finish_reason"],
        "rejected_finish_reason": worst.line["finish_reason"],
        "chosen_score": best.score,
        "rejected_score": worst.score,
    }
