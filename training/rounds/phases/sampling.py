"""The phase in which the new policy writes, and the one before it for the gate."""

from dataclasses import asdict, replace

from annotate.models import Policy
from training.endpoints.writing import EndpointWriting
from training.engine.config import TrainConfig
from training.engine.rundir import RunDirectory, write_jsonl
from training.models import Endpoint, Round
from training.rounds import results, state_machine, workers
from training.rounds.child_process import TICK_SECONDS
from training.rounds.choosing.terms import AT_RANDOM, Terms
from training.rounds.finishing import RoundLostError, previous_files
from training.rounds.phases.choosing import decide
from training.rounds.phases.following import run_verb
from training.rounds.phases.work import Work, WorkerStoppingError
from training.rounds.plan import Plan
from training.rounds.starts import is_endpoint, on_this_machine, weights_of


def sample(work: Work) -> None:
    """Let the new policy write, and the one before it for the gate. Raises as `run_verb` and `follow_endpoint` do."""
    round_, files = work.round, work.files
    write_prompts(round_, files, decide(work))
    previous = previous_files(files)
    for directory in (files, previous) if previous.prompts.exists() else (files,):
        if directory.has_done("sample") or not directory.prompts.stat().st_size:
            continue
        writer = round_.opponent if directory is previous else None if round_.trains else round_.start_policy
        if writer is not None and is_endpoint(writer):
            follow_endpoint(round_, directory, writer.endpoint)
        else:
            run_verb(work, "sample", files=directory)


def write_prompts(round_: Round, files: RunDirectory, terms: Terms = AT_RANDOM) -> None:
    """Draw the prompts for the new policy, and for the gate those of the one before. A retry keeps the first draw."""
    plan = Plan.from_dict(round_.settings)
    if previous_files(files).prompts.exists():
        _write_previous_config(round_, plan, files)  # which a resumed round may have changed
    if files.prompts.exists():
        return
    gate = results.gate_entries(round_, plan.gate_comparisons) if round_.trains else []
    fresh = results.fresh_entries(round_, plan.fresh_comparisons, terms)
    of_opponent = gate if round_.trains else fresh
    if round_.opponent is not None and of_opponent:
        _write_previous_config(round_, plan, files)
        write_jsonl(previous_files(files).prompts, of_opponent)
    write_jsonl(files.prompts, gate + fresh)


def _write_previous_config(round_: Round, plan: Plan, files: RunDirectory) -> None:
    """Write the settings of the policy that is compared with, which writes by the same ones."""
    if round_.opponent is None:
        return
    config = _config_of(round_.opponent, plan)
    # Another seed: two policies that have not moved apart yet would write the same words from the same draws.
    sampling = replace(config.sampling, seed=config.sampling.seed + 1)
    previous_files(files).write_config(replace(config, sampling=sampling))


def _config_of(policy: Policy, plan: Plan) -> TrainConfig:
    """Return the plan's configuration for another policy that writes, as this machine reads it."""
    config = replace(plan.config, **weights_of(policy))
    return config if is_endpoint(policy) else on_this_machine(config)


def follow_endpoint(round_: Round, files: RunDirectory, endpoint: Endpoint) -> None:
    """Let an endpoint write for a run directory, and report on it until it ends.

    Raises RefusalError with the reason, RoundLostError, or WorkerStoppingError. No request is under way by then.
    """
    with EndpointWriting(files, endpoint, asdict(files.read_config().sampling)) as writing:
        while not writing.wait(TICK_SECONDS):
            if not state_machine.heartbeat(round_, **writing.progress()):
                raise RoundLostError
            if workers.is_stopping(round_.worker):
                raise WorkerStoppingError
