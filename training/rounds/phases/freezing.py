"""The pairs of a round, frozen by its worker: those of its start, however much was judged since."""

from typing import Any, ClassVar

from django.utils.translation import gettext as _

from annotate import attempts
from annotate.attempts import Progress
from annotate.models import Snapshot
from annotate.models.jobs import LostError
from annotate.pairs.snapshots import Watch, take_snapshot
from training.models import Round
from training.rounds import state_machine, workers
from training.rounds.finishing import RoundLostError
from training.rounds.phases.work import WorkerStoppingError
from training.rounds.plan import Plan
from training.rounds.readiness import describe_trained
from training.rounds.starts import RoundError


def freeze(round_: Round) -> None:
    """Take the snapshot of a claimed round, which it then has. A retry begins again, and finds the same pairs.

    Raises RoundError for pairs that it cannot train on, RoundLostError, or WorkerStoppingError. Nothing is kept then.
    """
    plan, held = Plan.from_dict(round_.settings), _HeldRound(round_)
    progress = Progress(held)
    watch = _Freezing(round_, plan, progress)
    try:
        with attempts.heartbeat(progress, every=attempts.HEARTBEAT):
            round_.snapshot = take_snapshot(
                round_.project,
                round_.created_by,
                plan.pairs,
                at=round_.moment,
                watch=watch,
            )
    except LostError:
        if held.is_stopping:
            raise WorkerStoppingError from None
        raise RoundLostError from None
    except RoundError as refused:
        state_machine.heartbeat(round_, summary={"freeze": {"refused": True}})
        advice = _("Later judgments do not count in this round: start another one then.")
        raise RoundError(f"{refused.message} {advice}", refused.field) from None


class _HeldRound:
    """A round as its heartbeat holds it, until it is another's or its worker is to stop."""

    _meta: ClassVar[Any] = Round._meta

    def __init__(self, round_: Round) -> None:
        self.pk, self._round = round_.pk, round_
        self.is_stopping = False

    def tell(self, **progress: Any) -> bool:
        """Write the heartbeat and the progress. Return False if the work is to end, or has ended.

        One that waited for the row while the round was given its snapshot writes no progress of the freezing.
        """
        self.is_stopping = workers.is_stopping(self._round.worker)
        fence = {"phase": Round.FREEZING}
        return not self.is_stopping and state_machine.heartbeat(self._round, fence=fence, **progress)


class _Freezing(Watch):
    """The watch of the snapshot, which its heartbeat tells of: the taking itself is in a transaction."""

    def __init__(self, round_: Round, plan: Plan, progress: Progress) -> None:
        self._round, self._plan, self._progress = round_, plan, progress
        self._passes = self._passed = 0

    def aggregating(self) -> None:
        self._progress.note(step=0, total_steps=0)

    def aggregated(self, rows: int) -> None:
        self._passes, self._passed = 2 * rows, 0

    def passed(self) -> None:
        self._passed += 1
        self._progress.note(step=self._passed, total_steps=self._passes)

    def taken(self, snapshot: Snapshot) -> None:
        """Give the round its snapshot, or have neither if the round is no longer this worker's."""
        message = f"{describe_trained(snapshot, self._plan.config)}."
        if not state_machine.record_snapshot(self._round, snapshot, message):
            raise LostError
