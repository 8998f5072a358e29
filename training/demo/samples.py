"""Completions outside a round: one `sample` child process over one run directory, waited for.

The first samples of the demo, and what a simulation measures, are made here. Samples of a round come from
`phases/following.py`, which follows its child and can be stopped.
"""

import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotate.models import Completion, Policy, Prompt
from training.engine.rundir import RunDirectory, read_jsonl, write_jsonl
from training.rounds import child_process, results
from training.rounds.phases.following import read_progress
from training.rounds.plan import Plan
from training.rounds.starts import RoundError, on_this_machine
from training.storage.objects import StorageFaultError

Pair = tuple[Completion, Completion]
Say = Callable[[str], None]

SECONDS_BETWEEN_REPORTS = 15.0


class SamplingError(Exception):
    """A reason why the policy cannot write, in a sentence."""


def sample(
    policy: Policy,
    prompts: Iterable[Mapping[str, Any]],
    folder: Path,
    *,
    say: Say | None = None,
    **sampling: Any,
) -> list[dict[str, Any]]:
    """Let `policy` write completions for `prompts` ({"id", "prompt"}). Return the rows of samples.jsonl.

    `sampling` are fields of SamplingConfig, laid over the project's settings. `say` is told the progress now and then.
    Raises SamplingError.
    """
    return sample_by(policy, {folder: None}, prompts, say=say, **sampling)[0]


def sample_by(
    policy: Policy,
    adapters: Mapping[Path, Path | None],
    prompts: Iterable[Mapping[str, Any]],
    *,
    say: Say | None = None,
    **sampling: Any,
) -> list[list[dict[str, Any]]]:
    """Let `policy` write in each folder of `adapters`, by that adapter or by its own where there is None.

    One child writes for all of them. The rest is as in `sample`.
    """
    try:
        config = on_this_machine(Plan.for_project(policy.project, policy, {}, trains=False).config)
    except (RoundError, StorageFaultError, OSError) as error:
        raise SamplingError(str(error)) from error
    config = replace(config, sampling=replace(config.sampling, **sampling))
    given = [dict(prompt) for prompt in prompts]
    runs = [RunDirectory(folder) for folder in adapters]
    for run, adapter in zip(runs, adapters.values(), strict=True):
        run.write_config(replace(config, start_adapter=str(adapter)) if adapter else config)
        write_jsonl(run.prompts, given)
        run.progress_file.unlink(missing_ok=True)
    first, *others = runs
    with tempfile.TemporaryFile() as log:
        child = child_process.start_child(
            "sample",
            first.root,
            *(str(run.root) for run in others),
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            _follow(child, first, say or (lambda _: None))
        finally:
            child_process.end_child(child)
        log.seek(0)
        said = log.read()
    if child.returncode:
        last_words = (
            said.decode(errors="replace").strip().splitlines() or [f"exit code {child.returncode}"]
        )[-1]
        raise SamplingError(f"Sampling with policy {policy.name} failed: {last_words}")
    return [[row for _, row in read_jsonl(run.samples)] for run in runs]


def _follow(child: subprocess.Popen[bytes], run: RunDirectory, say: Say) -> None:
    """Wait until the child has ended, and report how far it is."""
    last = ""
    while True:
        try:
            child.wait(SECONDS_BETWEEN_REPORTS)
            return
        except subprocess.TimeoutExpired:
            progress = read_progress(run, "sample")
            report = progress["phase"]
            if progress["total_steps"]:
                report = f"{progress['step']} of {progress['total_steps']} written"
            if progress["seconds_left"]:
                report += f", about {progress['seconds_left']:.0f} s left"
            if report != last:
                say(f"  {report}")
            last = report


def sample_pairs(
    policy: Policy, prompts: Iterable[Prompt], folder: Path, *, say: Say | None = None
) -> list[Pair]:
    """Return two different completions for each prompt, not saved. Leave out prompts that got none, or equal ones."""
    entries = [
        {"id": str(prompt.pk), "prompt": prompt.content} | ({"tools": prompt.tools} if prompt.tools else {})
        for prompt in prompts
    ]
    by_prompt: dict[int, list[dict[str, Any]]] = {}
    for row in sample(policy, entries, folder, say=say, samples_per_prompt=2):
        by_prompt.setdefault(int(row["id"]), []).append(row)
    pairs = []
    for prompt_id, rows in by_prompt.items():
        written = list(results.completions(prompt_id, policy, rows, Counter()))
        if len(written) == 2 and written[0].text.strip() != written[1].text.strip():
            pairs.append((written[0], written[1]))
    return pairs
