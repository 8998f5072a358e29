"""The draft: a policy trained on the first labelled pairs, which writes what the other pairs are made of.

Few of the reference's completions are like those of the policy that the scores describe: at a KL of 2 nats about one in
seven. Regression on them learns little of where the policy will write, and a draft writes there. Gaps are measured
against the reference, whichever policy wrote, so the optimum stays what it is (measured in docs/learning.md).
"""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.engine.assisting.prompting import spread_prompts
from training.engine.config import TrainConfig
from training.engine.errors import StaleCheckpointError
from training.engine.records import SamplingPrompt
from training.engine.rundir import RunDirectory, storing, write_jsonl
from training.engine.train import train


def train_draft(
    run: RunDirectory,
    config: TrainConfig,
    prompts: Iterable[SamplingPrompt],
    rows: Iterable[dict[str, Any]],
    probe: Path,
) -> RunDirectory:
    """Return the run directory of a draft, trained on the run's pairs and `rows`, with the prompts that it writes for.

    `probe` is what will rate its completions. A training that was interrupted resumes. Raises EngineError subclasses.
    """
    draft = open_draft(run)
    draft.progress_file = run.progress_file
    draft.write_config(draft_settings(config, probe))
    with storing(draft.root):
        shutil.copyfile(run.pairs, draft.pairs)
    write_jsonl(draft.assisted_pairs, rows)
    write_jsonl(draft.prompts, spread_prompts(prompts, config.assist, config.assist.drafted_pairs))
    try:
        train(draft)
    except StaleCheckpointError:  # of other pairs or settings, which nothing else needs
        shutil.rmtree(draft.checkpoints)
        train(draft)
    shutil.rmtree(draft.checkpoints, ignore_errors=True)
    return draft


def open_draft(run: RunDirectory) -> RunDirectory:
    """Return the run directory of the run's draft."""
    return RunDirectory(run.root / "assist" / "draft")


def draft_settings(config: TrainConfig, probe: Path) -> TrainConfig:
    """Return the settings of the training, without what asks for held-out pairs or shows the metrics."""
    sampling = replace(
        config.sampling, policy="trained", seed=config.assist.seed + 1, reference=None, skip_long=True
    )
    return replace(
        config, eval_steps=0, keep="last", early_stop=0, trackers=(), probe=str(probe), sampling=sampling
    )
