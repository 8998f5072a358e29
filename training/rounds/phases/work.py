"""The work of one attempt on a round, and the phases that it consists of."""

from collections.abc import Callable
from dataclasses import dataclass, field

from training.engine.rundir import RunDirectory
from training.models import Round
from training.rounds import state_machine
from training.rounds.finishing import RoundLostError
from training.rounds.plan import Plan
from training.storage.courier import Courier


class WorkerStoppingError(Exception):
    """A request to the worker to stop."""


class ChildFailedError(Exception):
    """The failure of a child process. The message is the reason, in a sentence."""


@dataclass
class Work:
    """A claimed round, its run directory, and what carries that to the storage."""

    round: Round
    files: RunDirectory
    courier: Courier | None = None
    plan: Plan = field(init=False)

    def __post_init__(self) -> None:
        self.plan = Plan.from_dict(self.round.settings)

    def deliver(self) -> None:
        """Wait until the storage has what there is. Raises as `Courier.deliver` does."""
        if self.courier and self.courier.is_active:
            state_machine.heartbeat(self.round, phase="storing")
            self.courier.deliver()


@dataclass(frozen=True)
class Phase:
    """A part of the work: the state that the round is in meanwhile, whether it is wanted, and what it does.

    `act` is called again on each attempt. It finds in done.json what an earlier attempt finished, and goes on from
    there. Phases with the same state follow one another.
    """

    name: str
    state: Round.State
    is_wanted: Callable[[Work], bool]
    act: Callable[[Work], None]

    def lead(self, work: Work) -> None:
        """Do this part of the work, and store what came of it. Raises RoundLostError, and what `act` raises."""
        if work.round.state != self.state and not state_machine.advance(work.round, self.state):
            raise RoundLostError
        self.act(work)
        work.deliver()
