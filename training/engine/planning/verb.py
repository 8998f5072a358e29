"""The verb `plan`: what a run directory would train and write, how long it would take, and the memory it would need.

It trains nothing and writes nothing. What costs memory is measured in processes of their own, so that one that the
system ends is a result too.
"""

import time
from dataclasses import replace
from datetime import date
from typing import Any

from training.engine.config import TrainConfig
from training.engine.planning.child import KilledError, measured
from training.engine.planning.proposals import propose
from training.engine.rundir import RunDirectory

_PARTS = "training.engine.planning"


def plan(run: RunDirectory) -> dict[str, Any]:
    """Return the plan of a run directory as JSON values. With neither pairs nor prompts it tells of the model alone.

    Raises EngineError subclasses, as the verbs themselves would.
    """
    began = time.monotonic()
    config = _dated(run, run.read_config())
    found: dict[str, Any] = {"events": []}
    for file, function in (
        (run.pairs, f"{_PARTS}.training_cost.measure_training"),
        (run.prompts, f"{_PARTS}.sampling_cost.measure_sampling"),
    ):
        if file.exists():
            _add(found, function, str(run.root), config)
    if "model" not in found:
        found["model"] = _describe(config)
        found["fits"] = found["model"]["weights_bytes"] <= found["model"]["available_bytes"]
    found["proposals"] = propose(config, found)
    found["seconds_planned"] = round(time.monotonic() - began, 1)
    return found


def _add(found: dict[str, Any], function: str, root: str, config: TrainConfig) -> None:
    """Add the parts that `function` measures. A part of which it was killed does not fit."""
    part = "training" if "training" in function.rpartition(".")[2] else "sampling"
    try:
        parts = measured(function, root, config)
    except KilledError:
        found.setdefault("model", _describe(config))
        found[part] = {"fits": False, "peak_memory_bytes": found["model"]["available_bytes"] + 1}
        return
    found["events"] += parts.pop("events")
    starting = round(parts.pop("starting"), 2)
    if "total_seconds" in parts.get(part, {}):
        parts[part]["seconds"] = {"starting": starting} | parts[part]["seconds"]
        parts[part]["total_seconds"] = round(parts[part]["total_seconds"] + starting, 1)
    if "preview" in found:
        parts.pop("preview", None)
    found |= parts


def _describe(config: TrainConfig) -> dict[str, Any]:
    facts = measured(f"{_PARTS}.model_facts.describe", config)
    del facts["starting"]
    return facts


def _dated(run: RunDirectory, config: TrainConfig) -> TrainConfig:
    """Return the settings with the day that a chat template is told: the directory's own, without keeping one."""
    if config.template_date:
        return config
    kept = run.template_date.read_text().strip() if run.template_date.exists() else ""
    return replace(config, template_date=kept or date.today().isoformat())  # noqa: DTZ011 - as `train` does
