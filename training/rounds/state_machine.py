"""The state machine of a round: queue, claim, advance, fail, cancel, resume. `deciding.py` has its end.

The only writer of Round.state and RoundEvent. Every move is one UPDATE that names the state it leaves, with its
RoundEvent in the same transaction: of two that try, one wins. Rows are the truth and a message in the broker is
a hint: `sweeping.sweep_rounds`, run every few seconds, resends what was lost and takes rounds back from silent
workers. `runner.py` does the work of a round.

Every time that decides something is the database's (`Now()`): workers' clocks may disagree. Messages of the history
are stored as they are written, so they are not marked for translation. RoundErrors are shown at once, and are.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext as _

from annotate.models import Judgment, Policy, Project, Snapshot, User
from annotate.models.conflicts import again_on_race
from annotate.pairs.frozen.jobs import take_at_once
from annotate.projects.prompts import hold_out_enough
from training.models import Round, RoundEvent
from training.rounds import workers
from training.rounds.plan import UNSETTABLE, Plan, check_model
from training.rounds.readiness import describe_trained
from training.rounds.starts import (
    RoundError,
    check_not_archived,
    check_opponent,
    check_policy,
    check_writer,
    is_endpoint,
    named_start,
    usual_start,
)
from training.standings.gates import next_level
from training.storage.folders import Folder
from training.storage.hiding import tell_reason

logger = logging.getLogger(__name__)

State = Round.State
MOVES: Final[Mapping[str, frozenset[State]]] = {
    State.QUEUED: frozenset({State.TRAINING, State.SAMPLING, State.FAILED, State.CANCELLED}),
    State.TRAINING: frozenset({State.SAMPLING, State.QUEUED, State.FAILED, State.CANCELLED}),
    State.SAMPLING: frozenset({State.READY, State.WRITTEN, State.QUEUED, State.FAILED, State.CANCELLED}),
    State.READY: frozenset({State.PROMOTED, State.REJECTED}),
    State.FAILED: frozenset({State.QUEUED}),
    State.PROMOTED: frozenset(),
    State.REJECTED: frozenset(),
    State.CANCELLED: frozenset(),
    State.WRITTEN: frozenset(),
}
RUN_TASK = "training.tasks.run_round"
MAX_WRITTEN = 10_000  # comparisons of one round that only writes
MESSAGE_LIFE = timedelta(days=1)  # by the sender's clock and the receiver's, which may be that far apart
# Samples of the policy in use go before older ones, and behind comparisons that were chosen on purpose.
FRESH_PRIORITY = 5


def move(
    round_: Round,
    to: State,
    *,
    message: str = "",
    by: User | None = None,
    fence: Mapping[str, Any] | None = None,
    **fields: Any,
) -> bool:
    """Move a round from the state that `round_` was read in. Return False if it has left that state meanwhile.

    `fence` holds further conditions, `fields` what else is written with the move. Raises ValueError for a move
    that the table does not allow.
    """
    if to not in MOVES[round_.state]:
        raise ValueError(f"A round cannot go from {round_.state} to {to}.")
    with transaction.atomic():
        here = Round.objects.filter(pk=round_.pk, state=round_.state, **(fence or {}))
        if here.update(state=to, **fields) != 1:
            return False
        note(round_, to, message, by)
    round_.refresh_from_db()
    return True


def note(round_: Round, to: str, message: str, by: User | None) -> None:
    """Write a line of the round's history."""
    RoundEvent.objects.create(
        round=round_, from_state=round_.state, to_state=to, message=message, by=by, created_at=Now()
    )


# --- What an admin does ------------------------------------------------------------------------------------------


@again_on_race
def start(
    project: Project,
    by: User | None,
    chosen: Mapping[str, Any] | None = None,
    *,
    against: Policy | None = None,
    begin: Policy | None = None,
) -> Round:
    """Queue a round that trains on the judgments of this moment. Where they are many, its worker freezes their pairs.

    It trains from the policy `begin`, by default from the project's base policy, which is its reference too: a fixed
    one, however many rounds there were. `chosen` lies over the project's defaults; `Plan.for_project` lists its keys.
    Its gate compares with the current policy, or with the one that is named by `against`. Raises RoundError, naming
    the field at fault, if the round cannot be queued. Nothing is changed then. Where its worker freezes the pairs and
    finds too few, the round fails.
    """

    def plan_training(project: Project) -> tuple[Policy, Plan]:
        policy = named_start(project, begin) if begin else usual_start(project)
        return policy, Plan.for_project(project, policy, chosen or {})

    with _planned(project, plan_training) as (policy, plan):
        workers.check_devices(plan.processes)
        opponent = against or policy.project.current_policy
        opponent = None if opponent == policy else opponent  # which a round without another one compares with
        check_opponent(policy, opponent)
        snapshot = take_at_once(policy.project, by, plan.pairs)
        message = f"{describe_trained(snapshot, plan.config)}."
        return _queue(policy, plan, by, message, snapshot=snapshot, against=opponent)


@again_on_race
def retrain(original: Round, policy: Policy, by: User | None, *, reference: Policy | None = None) -> Round:
    """Queue a round that does `original` over from `policy`, with its settings, on what is left of its judgments.

    A `reference` takes the place of the policy that the settings name. The judgments are those that stood when it was
    started. Raises RoundError as `start` does.
    """
    plan = Plan.of_round(original.settings)
    config = replace(plan.config, start_adapter=check_policy(policy).adapter or None)
    if reference is not None:
        config = replace(config, reference=check_policy(reference).adapter)
    plan = replace(plan, config=config)
    check_model(plan)  # which opens files, so the project is not locked yet
    with transaction.atomic():
        project = _locked(original.project)
        _check_free(project)
        snapshot = take_at_once(project, by, plan.pairs, at=original.moment)
        policy.project = project
        message = f"{describe_trained(snapshot, plan.config)}, without what was forgotten of round {original.number}."
        current = project.current_policy
        against = None if current == policy else current
        check_opponent(policy, against)
        return _queue(policy, plan, by, message, snapshot=snapshot, retrains=original, against=against)


@again_on_race
def write(
    project: Project,
    by: User | None,
    count: int,
    sampling: Mapping[str, Any] | None = None,
    *,
    choosing: Mapping[str, Any] | None = None,
    policy: Policy | None = None,
    against: Policy | None = None,
) -> Round:
    """Queue a round that does not train: a policy, the current one if none is named, writes `count` comparisons.

    `sampling` and `choosing` settings lie over the project's. With `against`, that policy writes the other side of
    each. Prompts that were compared least come first, held-out ones among them, so that there is something to measure
    by. Raises RefusalError as `start` does, and if there is nothing to write for.
    """
    if not 1 <= count <= MAX_WRITTEN:
        sentence = _("Comparisons: give a number from 1 to %(most)s, not %(count)s.")
        raise RoundError(sentence % {"most": f"{MAX_WRITTEN:,}", "count": count}, "count")
    if not project.prompts.for_rounds().exists():
        raise RoundError(_("There are no prompts to write for; import some first."), "count")

    def plan_writing(project: Project) -> tuple[Policy, Plan]:
        wanted = project.policies.filter(pk=policy.pk).first() if policy else project.current_policy
        writer = check_writer(wanted)
        return writer, Plan.for_writing(project, writer, count, sampling, choosing)

    with _planned(project, plan_writing) as (writer, plan):
        check_opponent(writer, against)
        message = f"{count} comparison{'' if count == 1 else 's'} to write."
        return _queue(writer, plan, by, message, trains=False, against=against)


@contextmanager
def _planned(
    project: Project, make_plan: Callable[[Project], tuple[Policy, Plan]]
) -> Iterator[tuple[Policy, Plan]]:
    """Yield the policy that a round starts from, and its plan, in a transaction with the project locked.

    Both are made twice: files of models are opened before the project is locked. Raises RefusalError.
    """
    policy, checked = make_plan(Project.objects.get(pk=project.pk))
    _check_weights(policy, checked)
    with transaction.atomic():
        project = _locked(project)
        check_not_archived(project)
        policy, plan = make_plan(project)
        policy.project = project
        if plan.config != checked.config:
            _check_weights(policy, plan)
        _check_free(project)
        hold_out_enough(project)
        yield policy, plan


def _check_weights(policy: Policy, plan: Plan) -> None:
    """Check the model of a plan, unless a server writes. Raises RoundError."""
    if not is_endpoint(policy):
        check_model(plan)


def _locked(project: Project) -> Project:
    """Lock the project and read it again: a promotion or a roll-back may have been committed since."""
    return Project.objects.select_for_update(no_key=True).get(pk=project.pk)


def _queue(
    policy: Policy,
    plan: Plan,
    by: User | None,
    message: str,
    *,
    snapshot: Snapshot | None = None,
    trains: bool = True,
    retrains: Round | None = None,
    against: Policy | None = None,
) -> Round:
    """Write the round that starts from `policy`, whose project is locked, and send its message."""
    project = policy.project
    number = (project.rounds.aggregate(last=Max("number"))["last"] or 0) + 1
    try:
        with transaction.atomic():
            round_ = Round.objects.create(
                project=project,
                number=number,
                start_policy=policy,
                trains=trains,
                retrains=retrains,
                against=against,
                snapshot=snapshot,
                settings=plan.to_dict(),
                folder=f"runs/{project.slug}-{number}",
                processes=plan.processes or 0,
                gate_level=next_level(project) if trains else None,
                last_judgment=Judgment.objects.aggregate(last=Max("pk"))["last"] or 0,
                created_by=by,
            )
    except IntegrityError:  # another one was resumed by the version before, which locked no project
        raise RoundError(_why_no_other(project)) from None
    RoundEvent.objects.create(round=round_, to_state=round_.state, message=message, by=by, created_at=Now())
    enqueue(round_)
    return round_


def _check_free(project: Project) -> None:
    """Refuse a project that has an open round. Raises RoundError."""
    if project.rounds.open().exists():
        raise RoundError(_why_no_other(project))


def _why_no_other(project: Project) -> str:
    other = project.rounds.open().first()
    if other is None:
        return _("Another round was opened at the same moment; look at the list again.")
    if other.state == State.READY:
        return _("Round %(number)d waits for your decision; promote or reject it first.") % {
            "number": other.number
        }
    return _("Round %(number)d is %(state)s; wait for it to end or cancel it first.") % {
        "number": other.number,
        "state": other.get_state_display().lower(),
    }


def cancel(round_: Round, by: User | None = None) -> bool:
    """Stop a live round. Its worker loses the round and ends the child process. Return False if it is over."""
    while round_.state in Round.LIVE:
        if move(round_, State.CANCELLED, by=by, finished_at=Now()):
            return True
        round_.refresh_from_db()
    return False


def resume(round_: Round, by: User | None = None, changes: Mapping[str, Any] | None = None) -> None:
    """Queue a failed round again; training goes on from its last checkpoint. Raises RoundError if it cannot.

    `changes` are settings by dotted name that its result does not depend on (`plan.RESUMABLE`), and a KL budget that is
    unset before it was kept.
    """
    if round_.was_refused:
        sentence = _(
            "What round %(number)d trains on was judged before its start, and is too little. Start another."
        )
        raise RoundError(sentence % {"number": round_.number})
    if not round_.can_resume:
        sentence = _("Round %(number)d has not failed, so there is nothing to resume.")
        raise RoundError(sentence % {"number": round_.number})
    check_not_archived(Project.objects.get(pk=round_.project_id))
    (check_policy if round_.trains else check_writer)(round_.start_policy)
    settings, message = round_.settings, "Resumed."
    if changes:
        if UNSETTABLE in changes and "scale" in Folder(round_.folder).read_done():
            raise RoundError(_("was kept already: the policy is scaled."), UNSETTABLE, separator=" ")
        settings = Plan.of_round(settings).changed(changes).to_dict()
        named = ", ".join(f"{name} {'unset' if value is None else value}" for name, value in changes.items())
        message = f"Resumed with {named}."
    try:
        with transaction.atomic():
            _locked(round_.project)  # so that what is being forgotten is gone
            moved = move(
                round_,
                State.QUEUED,
                message=message,
                by=by,
                settings=settings,
                losses=0,
                reason="",
                finished_at=None,
                enqueued_at=None,
            )
    except IntegrityError:
        raise RoundError(_why_no_other(round_.project)) from None
    if moved:
        enqueue(round_)


# --- What a worker does ------------------------------------------------------------------------------------------


def claim_round(round_id: int, worker: str) -> Round | None:
    """Take a queued round for `worker`. Return None if another one has it or should, or it is no longer queued."""
    round_ = Round.objects.select_related("project").filter(pk=round_id, state=State.QUEUED).first()
    if round_ is None:
        return None
    # The sweep sends it again, until a worker with the devices takes it.
    if workers.should_leave(round_, worker):
        Round.objects.filter(pk=round_id, state=State.QUEUED).update(enqueued_at=None)
        return None
    fresh = {"phase": Round.FREEZING, "step": 0, "total_steps": 0} if round_.lacks_snapshot else {"phase": ""}
    with transaction.atomic():
        attempt = round_.attempts + 1
        claimed = move(
            round_,
            State.TRAINING if round_.trains else State.SAMPLING,
            message=f"Attempt {attempt}, by {worker}.",
            fence={"attempts": round_.attempts},
            attempts=attempt,
            worker=worker,
            heartbeat_at=Now(),
            started_at=Coalesce("started_at", Now()),
            seconds_left=None,
            **fresh,
        )
    return round_ if claimed else None


def heartbeat(round_: Round, *, fence: Mapping[str, Any] | None = None, **progress: Any) -> bool:
    """Record that the worker is alive, and its progress. Return False if the round is no longer this worker's.

    `fence` holds further conditions.
    """
    mine = Round.objects.filter(pk=round_.pk, attempts=round_.attempts, state__in=Round.RUNNING)
    return mine.filter(**(fence or {})).update(heartbeat_at=Now(), **progress) == 1


def record_snapshot(round_: Round, snapshot: Snapshot, message: str) -> bool:
    """Record the pairs of the worker's own round. Return False if it is no longer this worker's."""
    with transaction.atomic():
        is_mine = heartbeat(round_, snapshot=snapshot, phase="", step=0, total_steps=0)
        if is_mine:
            note(round_, State(round_.state), message, None)
    return is_mine


def advance(round_: Round, to: State, **fields: Any) -> bool:
    """Move on in the worker's own round. Return False if it is no longer this worker's."""
    return move(round_, to, fence={"attempts": round_.attempts}, heartbeat_at=Now(), **fields)


def fail(round_: Round, reason: str) -> bool:
    """Fail the worker's own round with a reason in one sentence, which is told without folders of the server."""
    reason = tell_reason(logger, round_, reason, round_.start_policy.base_model)
    return advance(round_, State.FAILED, message=reason, reason=reason, finished_at=Now())


def hand_back(round_: Round) -> bool:
    """Put the worker's own round back into the queue, because the worker was asked to stop."""
    with transaction.atomic():
        moved = advance(
            round_,
            State.QUEUED,
            message=f"{round_.worker} is stopping; another worker will go on.",
            enqueued_at=None,
        )
        if moved:
            enqueue(round_)
    return moved


# --- The broker --------------------------------------------------------------------------------------------------


def enqueue(round_: Round) -> None:
    """Send the round's message once its row is committed."""
    transaction.on_commit(lambda: send(round_.pk))


def send(round_id: int) -> bool:
    """Give the broker a queued round's message. The sweep retries if the broker is away.

    There is one message for each time that the sweep takes a round's for lost.
    """
    if not workers.send_message(RUN_TASK, round_id, MESSAGE_LIFE):
        return False
    Round.objects.filter(pk=round_id, state=State.QUEUED).update(enqueued_at=Now())
    return True
