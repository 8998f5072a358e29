"""The work on a claimed round, between the database and the run directory: files, child processes, results.

Everything here can be cut off at any point and retried. Files are written whole, a verb that is in done.json is not
run twice, and the results reach the database in one transaction. Writes are fenced (`state_machine.heartbeat`,
`state_machine.advance`): a worker that lost its round, to a cancel or to another worker, finds out within a second and
ends its child.
"""

import logging
import time

from django.db import InterfaceError, OperationalError

from annotate.errors import RefusalError
from annotate.pairs.snapshots import training_rows
from training.engine.errors import EngineError
from training.engine.rundir import RunDirectory, write_jsonl
from training.models import Round
from training.rounds import child_process, state_machine, workers
from training.rounds.finishing import RoundLostError, finish, previous_files, probing_files
from training.rounds.phases.assisting import assist, is_assisted
from training.rounds.phases.choosing import choose_comparisons, fit_probe, wants_probe
from training.rounds.phases.freezing import freeze
from training.rounds.phases.sampling import sample
from training.rounds.phases.scaling import is_measured, scale
from training.rounds.phases.training import train
from training.rounds.phases.voting import vote, wants_votes
from training.rounds.phases.work import ChildFailedError, Phase, Work, WorkerStoppingError
from training.rounds.plan import Plan
from training.rounds.starts import is_endpoint, named_adapters, on_this_machine
from training.storage.courier import Courier, FencedError, clear_leftovers
from training.storage.objects import StorageFaultError

logger = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 20.0  # for a state that is stored while the worker stops or the round fails


def _trains_with_probe(work: Work) -> bool:
    return work.round.trains and wants_probe(work)


# What a round consists of, in order. A verb that is in done.json is not run again.
PHASES = (
    Phase("vote", Round.State.TRAINING, is_wanted=wants_votes, act=vote),
    Phase("assist", Round.State.TRAINING, is_wanted=is_assisted, act=assist),
    Phase("train", Round.State.TRAINING, is_wanted=lambda work: work.round.trains, act=train),
    # Fitted before, it rates what is written when KL is measured. What only writes fits it below.
    Phase("probe", Round.State.TRAINING, is_wanted=_trains_with_probe, act=fit_probe),
    Phase("scale", Round.State.TRAINING, is_wanted=is_measured, act=scale),
    Phase("probe", Round.State.SAMPLING, is_wanted=wants_probe, act=fit_probe),
    Phase("sample", Round.State.SAMPLING, is_wanted=lambda work: True, act=sample),
    Phase("choose", Round.State.SAMPLING, is_wanted=wants_probe, act=choose_comparisons),
)


def run(round_: Round) -> None:
    """Work on a round that `state_machine.claim_round` gave out, until it is ready, failed, or lost."""
    files = RunDirectory(round_.run_dir)
    courier = Courier(round_, files, keep=lambda: _keep(round_))
    try:
        clear_leftovers()
        prepare(round_, files, courier)
        work = Work(round_, files, courier)
        for phase in PHASES:
            if phase.is_wanted(work):
                phase.lead(work)
        finish(round_, files)
        courier.leave()
    except FencedError:
        logger.info("%s is no longer %s's; stopped working on it.", round_, round_.worker)
        clear_leftovers()
    except WorkerStoppingError:
        _deliver_last(round_, courier)
        state_machine.hand_back(round_)
    except StorageFaultError as error:
        state_machine.fail(round_, f"{error} Resume the round once the storage has what it needs.")
    except (ChildFailedError, EngineError, RefusalError) as error:
        if _deliver_last(round_, courier):
            courier.discard()  # before another worker of this machine may have it
        state_machine.fail(round_, str(error))
    except (OperationalError, InterfaceError):
        # The database is away. The heartbeat stops, so the sweep hands the round to the next worker.
        logger.exception("%s: the database cannot be reached.", round_)
    except Exception as error:
        logger.exception("%s failed in the worker.", round_)
        state_machine.fail(round_, child_process.explain_error(error, files.root))
    finally:
        courier.close()


def _keep(round_: Round) -> bool:
    """Write the heartbeat. Return False if the round is lost. Raises WorkerStoppingError."""
    if workers.is_stopping(round_.worker):
        raise WorkerStoppingError
    return state_machine.heartbeat(round_)


def _deliver_last(round_: Round, courier: Courier) -> bool:
    """Store what there is while the round is still this worker's. Return False where it stays on this machine alone."""
    courier.keep = lambda: state_machine.heartbeat(round_)
    try:
        return courier.deliver(LAST_WORDS_SECONDS)
    except (StorageFaultError, FencedError, OSError) as error:
        logger.warning("%s: its last state could not be stored: %s", round_, error)
        return False


# --- Files -------------------------------------------------------------------------------------------------------


def prepare(round_: Round, files: RunDirectory, courier: Courier | None = None) -> None:
    """Freeze the pairs, and write the files that `train` reads. What is there since an earlier attempt stays."""
    # Lost before it began: the child and the files are the successor's.
    if not state_machine.heartbeat(round_):
        raise RoundLostError
    child_process.end_orphan(files)
    child_process.end_orphan(previous_files(files))
    child_process.end_orphan(probing_files(round_, files))
    if round_.attempts == 1 and files.root.exists():
        # Left behind by another database; nothing of it may be mistaken for this round's.
        files.root.rename(files.root.with_name(f"{files.root.name}.{time.time_ns()}.old"))
    if round_.lacks_snapshot:
        freeze(round_)
    plan = Plan.from_dict(round_.settings)
    if courier and courier.is_active:
        state_machine.heartbeat(round_, phase="fetching")
        courier.fetch()
        for adapter in _adapters(round_, plan):
            courier.fetch_adapter(adapter)
    files.write_config(plan.config if is_endpoint(round_.start_policy) else on_this_machine(plan.config))
    for path, held_out in ((files.heldout, True), (files.pairs, False)):
        if round_.snapshot is not None and not path.exists():
            base_model = plan.config.base_model
            write_jsonl(path, training_rows(round_.snapshot, held_out, plan.margin_scale, base_model))


def _adapters(round_: Round, plan: Plan) -> set[str]:
    """Return the names of the adapters that the round's children load."""
    opponent = round_.opponent.adapter if round_.opponent else ""
    return named_adapters(plan.config) | ({opponent} if opponent else set())
