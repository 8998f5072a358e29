"""Estimates: what a round would train on and write, how long it would take and what memory it would need.

The web server has no PyTorch, so a worker answers: it writes a run directory for itself, runs the engine's verb `plan`
in it, and stores what that says. An estimate is cheap and harms nothing, so one that is lost is asked for again.
"""

import json
import logging
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings as site
from django.db import transaction
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext as _

from annotate.models import Policy, Project, User
from annotate.pairs.snapshots import take_snapshot, training_rows
from training.engine.config import TrainConfig
from training.engine.errors import ConfigError, EngineError
from training.engine.rundir import RunDirectory, write_jsonl
from training.models import DryRun, Round
from training.rounds import results, workers
from training.rounds.child_process import end_child, explain_exit, has_ended, start_child
from training.rounds.choosing.terms import expect_terms
from training.rounds.plan import Plan, check_model
from training.rounds.readiness import MIN_PAIRS
from training.rounds.starts import (
    RoundError,
    as_round_error,
    check_not_archived,
    check_policy,
    model_path,
    on_this_machine,
    usual_start,
)
from training.storage.hiding import hide_folders, tell_reason
from training.storage.objects import StorageFaultError

logger = logging.getLogger(__name__)

TASK = "training.tasks.estimate"
KEPT = 20  # in a project
LIFE = timedelta(minutes=30)  # of a message: who asked has gone
LONGEST_SECONDS = 900.0
# Times that kl_samples completions are written to measure KL: of two policies, and with a budget at some scales more.
SETS, SETS_WITH_BUDGET = 2, 6


# --- What an admin asks ------------------------------------------------------------------------------------------


def ask_round(
    project: Project,
    by: User | None,
    chosen: Mapping[str, Any],
    *,
    begin: Policy | None = None,
    against: Policy | None = None,
) -> DryRun:
    """Ask what a round with the settings `chosen` would cost. Raises RoundError as `state_machine.start` does.

    `against` changes no cost. It is kept for the form that takes a proposal.
    """
    plan = Plan.for_project(project, check_policy(begin) if begin else usual_start(project), chosen)
    check_model(plan)
    workers.check_devices(plan.processes)
    return _ask(project, by, DryRun.Kind.ROUND, plan.to_dict(), begin=begin, against=against)


def ask_writing(
    project: Project,
    by: User | None,
    count: int,
    sampling: Mapping[str, Any] | None = None,
    choosing: Mapping[str, Any] | None = None,
    *,
    policy: Policy | None = None,
    against: Policy | None = None,
) -> DryRun:
    """Ask what it would cost to write `count` comparisons. Raises RoundError as `state_machine.write` does.

    The cost is that of the current policy's base model. The policies are kept for the form that takes a proposal.
    """
    plan = Plan.for_writing(project, check_policy(project.current_policy), count, sampling, choosing)
    check_model(plan)
    return _ask(project, by, DryRun.Kind.WRITING, plan.to_dict(), begin=policy, against=against)


def ask_model(project: Project, by: User | None, base_model: str) -> DryRun:
    """Ask about a base model, with the project's settings. Raises RoundError if this site does not allow it."""
    model_path(base_model)
    settings = TrainConfig.within_bounds({**project.training_settings, "base_model": base_model})
    try:
        config = TrainConfig.from_dict(settings)
    except ConfigError as error:
        raise as_round_error(error) from error
    return _ask(project, by, DryRun.Kind.MODEL, {"config": config.to_dict()})


def _ask(
    project: Project,
    by: User | None,
    kind: DryRun.Kind,
    settings: dict[str, Any],
    **policies: Policy | None,
) -> DryRun:
    """Replace the project's open estimate, and send the message of the new one. Raises RoundError."""
    with transaction.atomic():
        project = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        check_not_archived(project)
        project.estimates.filter(state__in=DryRun.OPEN).delete()
        kept = project.estimates.values_list("pk", flat=True)[: KEPT - 1]
        project.estimates.exclude(pk__in=list(kept)).delete()
        made = DryRun.objects.create(
            project=project, kind=kind, settings=settings, created_by=by, heartbeat_at=Now(), **policies
        )
        transaction.on_commit(lambda: _send(made.pk))
    return made


def _send(estimate_id: int) -> None:
    if not workers.send_message(TASK, estimate_id, LIFE):
        waiting = DryRun.objects.filter(pk=estimate_id, state=DryRun.State.WAITING)
        reason = _("The message broker cannot be reached. Ask again in a minute.")
        waiting.update(state=DryRun.State.FAILED, reason=reason, finished_at=Now())


def fail_if_silent(estimate: DryRun) -> None:
    """Fail an estimate whose worker went silent, and one whose message is lost: no worker goes on with it."""
    silence = timedelta(seconds=site.SILENT_SECONDS)
    # Those of earlier versions have no heartbeat while they wait.
    here = DryRun.objects.filter(pk=estimate.pk).annotate(heard_at=Coalesce("heartbeat_at", "created_at"))
    silent = here.filter(state=DryRun.State.RUNNING, heard_at__lt=Now() - silence)
    untaken = here.filter(state=DryRun.State.WAITING, heard_at__lt=Now() - LIFE)
    went_silent = _("The worker %(worker)s went silent. Ask again.") % {"worker": estimate.worker}
    for rows, reason in ((silent, went_silent), (untaken, _("No worker took it. Ask again."))):
        if rows.update(state=DryRun.State.FAILED, reason=reason, finished_at=Now()):
            estimate.refresh_from_db()


# --- What a worker does ------------------------------------------------------------------------------------------


def claim(estimate_id: int, worker: str) -> DryRun | None:
    """Take a waiting estimate for `worker`. Return None if it is gone or taken."""
    waiting = DryRun.objects.filter(pk=estimate_id, state=DryRun.State.WAITING)
    if not waiting.update(state=DryRun.State.RUNNING, worker=worker, heartbeat_at=Now()):
        return None
    return DryRun.objects.select_related("project").get(pk=estimate_id)


def answer(estimate: DryRun) -> None:
    """Measure, and store what was found, or why there is nothing to find."""
    try:
        with tempfile.TemporaryDirectory(prefix="whetstone-estimate-") as folder:
            files = RunDirectory(Path(folder) / "run")
            shares = _write_files(estimate, files)
            result = _run_plan(estimate, files)
    except (EngineError, RoundError, StorageFaultError, RuntimeError, OSError) as error:
        _fail(estimate, str(error))
    except Exception as error:
        logger.exception("%s failed in the worker.", estimate)
        _fail(estimate, f"{type(error).__name__}: {error}")
    else:
        if result is not None:
            _add_writing(result, shares)
            _name_model(result, _base_model(estimate))
            _finish(estimate, DryRun.State.DONE, result=result)


def _base_model(estimate: DryRun) -> str:
    """Return the base model by its name in the database."""
    return str(estimate.settings["config"]["base_model"])


def _name_model(result: dict[str, Any], base_model: str) -> None:
    """Put names in place of the folders of this machine."""
    if "model" in result:
        result["model"]["name"] = base_model
    if "events" in result:
        result["events"] = hide_folders(result["events"], base_model)


def _fail(estimate: DryRun, reason: str) -> None:
    told = tell_reason(logger, estimate, reason, _base_model(estimate))
    _finish(estimate, DryRun.State.FAILED, reason=told)


def _finish(estimate: DryRun, state: DryRun.State, **fields: Any) -> None:
    mine = DryRun.objects.filter(pk=estimate.pk, state=DryRun.State.RUNNING)
    mine.update(state=state, finished_at=Now(), **fields)


def _write_files(estimate: DryRun, files: RunDirectory) -> dict[str, float]:
    """Write what `plan` reads. Return what else is written, as shares of the completions that `plan` knows of.

    Those are what the policy before writes for the gate, what KL is measured on, and what a probe labels. Raises
    RoundError where a round could not start either.
    """
    if estimate.kind == DryRun.Kind.MODEL:
        files.write_config(on_this_machine(TrainConfig.from_stored(estimate.settings["config"])))
        return {}
    plan = Plan.from_dict(estimate.settings)
    files.write_config(on_this_machine(plan.config))
    trains = estimate.kind == DryRun.Kind.ROUND
    if trains:
        _write_pairs(estimate, plan, files)
    round_ = _unsaved_round(estimate, plan, trains)
    gate = results.gate_entries(round_, plan.gate_comparisons) if trains else []
    terms = expect_terms(round_, plan.choosing, plan.fresh_comparisons)
    entries = gate + results.fresh_entries(round_, plan.fresh_comparisons, terms)
    if entries:
        write_jsonl(files.prompts, entries)
    sets = SETS_WITH_BUDGET if plan.config.kl_budget else SETS
    measured = sets * plan.config.kl_samples if trains else 0
    written = sum(one["n"] for one in entries) or 1
    return {
        "policy before": sum(one["n"] for one in gate) / written,
        "measuring KL": measured / written,
        "assisting": (plan.config.assist.completions if trains else 0) / written,
    }


def _add_writing(result: dict[str, Any], shares: Mapping[str, float]) -> None:
    """Add to the time of sampling what else is written, by policies that are loaded once more for it."""
    sampling = result.get("sampling", {})
    for what, share in shares.items() if "seconds" in sampling else ():
        if share:
            seconds = sampling["seconds"]
            again = seconds.get("starting", 0.0) + seconds["loading"]
            again += share * (seconds["reading"] + seconds["writing"])
            seconds[what] = round(again, 2)
            sampling["total_seconds"] = round(sampling["total_seconds"] + again, 1)


def _write_pairs(estimate: DryRun, plan: Plan, files: RunDirectory) -> None:
    """Write the pairs of a snapshot that is not kept."""
    with transaction.atomic():
        snapshot = take_snapshot(estimate.project, estimate.created_by, plan.pairs)
        for path, held_out in ((files.heldout, True), (files.pairs, False)):
            rows = training_rows(snapshot, held_out, plan.margin_scale, plan.config.base_model)
            write_jsonl(path, rows)
        transaction.set_rollback(True)
    if not files.pairs.stat().st_size:
        sentence = _(
            "There are no pairs to train on yet. A round needs %(min)d; judge more comparisons first."
        )
        raise RoundError(sentence % {"min": MIN_PAIRS}, "pairs")
    if not files.heldout.stat().st_size:
        files.heldout.unlink()


def _unsaved_round(estimate: DryRun, plan: Plan, trains: bool) -> Round:
    """Return the round that would be started, so that its prompts can be drawn."""
    project = estimate.project
    policy: Policy = _find_start(project, plan) if trains else check_policy(project.current_policy)
    return Round(
        project=estimate.project,
        number=0,
        start_policy=policy,
        trains=trains,
        folder=f"estimate-{estimate.pk}",
    )


def _find_start(project: Project, plan: Plan) -> Policy:
    """Return the policy whose weights a plan trains from."""
    config = plan.config
    weights = {"base_model": config.base_model, "revision": config.revision or ""}
    found = project.policies.exclude(kind=Policy.Kind.EXTERNAL).filter(
        adapter=config.start_adapter or "", **weights
    )
    return found.order_by("pk").first() or usual_start(project)


def _run_plan(estimate: DryRun, files: RunDirectory) -> dict[str, Any] | None:
    """Return what `plan` says; None if the estimate was replaced meanwhile. Raises RuntimeError with a sentence."""
    out, log = files.root / "plan.json", files.root / "plan.log"
    with out.open("wb") as stdout, log.open("wb") as stderr:
        child = start_child("plan", files.root, "--json", stdout=stdout, stderr=stderr)
        deadline = time.monotonic() + LONGEST_SECONDS
        try:
            while not has_ended(child):
                mine = DryRun.objects.filter(pk=estimate.pk, state=DryRun.State.RUNNING)
                if not mine.update(heartbeat_at=Now()):
                    return None
                if time.monotonic() > deadline:
                    minutes = int(LONGEST_SECONDS // 60)
                    raise RuntimeError(_("It took more than %(minutes)d minutes.") % {"minutes": minutes})
                if workers.is_stopping(workers.own_name()):
                    raise RuntimeError(_("The worker was stopped. Ask again."))
        finally:
            end_child(child)
    if child.returncode:
        raise RuntimeError(explain_exit("plan", child.returncode, log))
    found: dict[str, Any] = json.loads(out.read_text())
    return found


# --- What a page makes of it -------------------------------------------------------------------------------------


def with_proposals(estimate: DryRun, names: list[str]) -> dict[str, Any]:
    """Return the settings of an estimate with those of its proposals that are named."""
    settings: dict[str, Any] = json.loads(json.dumps(estimate.settings))
    for one in estimate.result.get("proposals", []):
        if one["option"] in names:
            group, _dot, key = one["option"].rpartition(".")
            place = settings["config"]
            (place[group] if group else place)[key] = one["value"]
    return settings
