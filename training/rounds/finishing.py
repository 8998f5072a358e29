"""The end of a round: its run directory becomes a policy, completions and comparisons, in one transaction."""

import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from annotate.models import Policy, Project
from training.engine.rundir import RunDirectory, read_jsonl
from training.models import Round
from training.rounds import results, state_machine
from training.rounds.choosing.choice import FRESH, Shown, read_shown
from training.rounds.starts import is_endpoint
from training.storage.courier import FencedError
from training.storage.hiding import hide_folders


class RoundLostError(FencedError):
    """The loss of the round to a cancel or to another worker."""


def finish(round_: Round, files: RunDirectory) -> None:
    """Write the new policy, its completions and comparisons, and end the round: all of it, or nothing.

    A round that does not train ends with completions and comparisons of its starting policy.
    """
    previous = previous_files(files)
    start = round_.start_policy
    new = _new_policy(round_) if round_.trains else None
    shown = read_shown(files)
    samples = _samples(files) if shown is None else _shown_samples(files, shown)
    made = results.make_comparisons(round_, new or start, samples, _samples(previous), shown)
    summary = hide_folders(_summary(files, previous), start.base_model) | {
        "fresh": len(made.fresh),
        "gate": len(made.gate),
        "passed_over": dict(made.counts) | count_passed_over(files),
    }
    fresh = len(made.fresh)
    message = f"{fresh} fresh comparison{'' if fresh == 1 else 's'}"
    message += f", {len(made.gate)} for the gate." if new else "."
    with transaction.atomic():
        # Hours may have passed since the project was read. Lock the project before the round, as promote does.
        project = Project.objects.select_for_update(no_key=True).get(pk=round_.project_id)
        # Holds the round: however long this takes, no sweep takes it back.
        if not state_machine.heartbeat(round_):
            raise RoundLostError
        if new:
            new.save()
        for comparison in made.fresh + made.gate:
            comparison.needed = project.judgments_needed
        made.save(round_)
        ended = state_machine.advance(
            round_,
            Round.State.READY if new else Round.State.WRITTEN,
            message=message,
            result_policy=new,
            summary=summary,
            finished_at=Now(),
        )
        if not ended:
            raise RoundLostError  # rolls everything back
    shutil.rmtree(files.checkpoints, ignore_errors=True)


def _new_policy(round_: Round) -> Policy:
    """Return the policy that the round trained, not saved yet."""
    start = round_.start_policy
    return Policy(
        project=round_.project,
        name=_policy_name(round_),
        kind=Policy.Kind.ADAPTER,
        base_model=start.base_model,
        revision=start.revision,
        adapter=f"{round_.folder}/adapter",
        parent=start,
    )


def _samples(files: RunDirectory) -> Iterator[results.Sample]:
    if files.samples.exists():
        for _line, row in read_jsonl(files.samples):
            yield row


def _shown_samples(files: RunDirectory, shown: Sequence[Shown]) -> Iterator[results.Sample]:
    """Yield the samples of the gate, and those that are shown afresh. The other candidates stay in the file."""
    keys = {key for one in shown for key in one.keys}
    for row in _samples(files):
        if not row["id"].startswith(FRESH) or (row["id"], row["index"]) in keys:
            yield row


def count_passed_over(files: RunDirectory) -> dict[str, int]:
    """Count the prompts that the policy did not write for: they fill its context, or its chat template refused them."""
    report = files.read_done().get("sample", {})
    counts = {"too_long": len(report.get("too_long", [])), "refused": report.get("refused", 0)}
    return {why: count for why, count in counts.items() if count}


def _policy_name(round_: Round) -> str:
    name = f"round {round_.number}"
    return name if not round_.project.policies.filter(name=name).exists() else round_.folder


def _summary(files: RunDirectory, previous: RunDirectory) -> dict[str, Any]:
    """Return what the engine reported, without the hashes, which stay in done.json."""
    done = files.read_done() | {"sample_previous": previous.read_done().get("sample", {})}
    found = {
        verb: {key: value for key, value in report.items() if key not in ("inputs", "outputs")}
        for verb, report in done.items()
        if report
    }
    # Of the policy that is kept, not of the one before scaling.
    if kept := found.get("scale", {}).get("heldout"):
        heldout = found["train"]["heldout"]
        found["train"]["heldout"] = {**heldout, "trained": heldout["after"], "after": kept}
    return found


def probing_files(round_: Round, files: RunDirectory) -> RunDirectory:
    """Return the run directory in which the round's probe works: its own, or for a server one of another model."""
    return RunDirectory(files.root / "probing") if is_endpoint(round_.start_policy) else files


def previous_files(files: RunDirectory) -> RunDirectory:
    """Return the run directory, inside the round's own, in which the policy before writes for the gate."""
    return RunDirectory(files.root / "previous")
