"""Trials: a prompt of a reader, answered by some policies. A worker writes; the page that waits looks after it.

While an answer is written, its row holds the text so far. A stop, a deadline or a lost worker leaves it there.

Rows are the truth, and a message in the broker is a hint, as for rounds: the waiting page and the sweep send again
what was lost, and free answers whose worker went silent. Trials are kept for a day.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings as site
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models import Policy, Project, User
from annotate.storage_errors import explain_failure
from annotate.text.chats import Content
from primitives.text import make_storable
from training.endpoints.client import Server
from training.endpoints.errors import StoppedError
from training.models import Answer, Round, Trial, Worker
from training.rounds import workers
from training.rounds.plan import Plan
from training.rounds.starts import check_writer, is_endpoint, on_this_machine
from training.storage.hiding import tell_reason
from training.storage.objects import StorageFaultError
from training.usage.warm_engine import EngineRefusalError, Tell, UnwantedError, engine

logger = logging.getLogger(__name__)

TASK = "training.tasks.answer_trial"
KEPT = timedelta(days=1)
MOST_POLICIES = 3
OPEN_PER_USER, OPEN_PER_PROJECT = 3, 10  # trials that wait or are being written
SECONDS = 600.0  # for one answer
MESSAGE_LIFE = timedelta(hours=1)
ATTEMPTS = 3
LONGEST_DRAFT = 60_000  # characters of a text so far: as many as a page shows

State = Answer.State


def request(
    project: Project,
    by: User,
    content: Content,
    policies: Sequence[Policy],
    sampling: Mapping[str, Any],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> Trial:
    """Ask for an answer of each policy. Raises RefusalError, naming the field at fault."""
    sweep()
    if not 1 <= len(policies) <= MOST_POLICIES:
        raise RefusalError(_("Choose from one to %(most)d policies.") % {"most": MOST_POLICIES}, "policies")
    for policy in policies:
        check_writer(policy)
        plan_of(policy, sampling)
    with transaction.atomic():
        # Of two requests at once, the second counts the first.
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        waiting = Trial.objects.filter(project=project, answers__state__in=Answer.LIVE).distinct()
        if waiting.filter(created_by=by).count() >= OPEN_PER_USER:
            raise RefusalError(_("Your other prompts are being answered. Wait for them, or stop one."))
        if waiting.count() >= OPEN_PER_PROJECT:
            raise RefusalError(_("Many prompts of this project are being answered. Wait for them."))
        kept = [dict(tool) for tool in tools] if tools else None
        trial = Trial.objects.create(
            project=project, created_by=by, content=content, sampling=dict(sampling), tools=kept
        )
        Answer.objects.bulk_create(
            Answer(trial=trial, policy=policy, position=place) for place, policy in enumerate(policies)
        )
    transaction.on_commit(lambda: send(trial))
    return trial


def plan_of(policy: Policy, sampling: Mapping[str, Any]) -> Plan:
    """Return the settings that a policy writes a trial with. Raises RoundError, naming a setting at fault."""
    chosen = {**sampling, "distinct": False, "skip_long": False}
    if is_endpoint(policy):
        chosen |= {name: value for name, value in policy.endpoint.sampling.items() if name not in sampling}
    return Plan.for_project(policy.project, policy, {"sampling": chosen}, trains=False)


def send(trial: Trial) -> None:
    """Tell a worker. Where the broker is away, the waiting page tries again."""
    if workers.send_message(TASK, str(trial.pk), MESSAGE_LIFE):
        Trial.objects.filter(pk=trial.pk).update(sent_at=Now())


def look_after(trial: Trial) -> None:
    """Free answers whose worker went silent, and send the trial's message again if it seems to be lost."""
    silence = timedelta(seconds=site.SILENT_SECONDS)
    silent = trial.answers.silent(silence)
    silent.filter(attempt__gte=ATTEMPTS).give_up()
    freed = silent.update(state=State.QUEUED, phase="")
    is_lost = Q(sent_at=None) | Q(sent_at__lt=Now() - silence)
    waits = Q(answers__state=State.QUEUED)
    if freed or Trial.objects.filter(is_lost, waits, pk=trial.pk).exists():
        send(trial)


def look_after_all() -> None:
    """Look after every trial that waits, whether or not its page is open."""
    for trial in Trial.objects.filter(answers__state__in=Answer.LIVE).distinct():
        look_after(trial)


def why_waiting(trial: Trial) -> str:
    """Return what a trial waits for, in a sentence: "" once a worker has it."""
    if not trial.answers.filter(state=State.QUEUED).exists():
        return ""
    if trial.answers.filter(state=State.RUNNING).exists():
        return _("The policies answer one after the other.")
    if not Worker.for_training():
        return _("No worker is running. Your prompt is kept until one is.")
    training = Round.objects.filter(state__in=Round.RUNNING).order_by("project_id").first()
    if training is not None:
        what = capfirst(training.get_state_display().lower())
        if training.project_id == trial.project_id:
            sentence = _("A worker is busy with round %(number)d (%(state)s); your prompt waits.")
            return sentence % {"number": training.number, "state": what}
        return _("A worker is busy with a round of another project; your prompt waits.")
    return _("A worker will take it in a moment.")


def sweep() -> None:
    """Delete trials that are a day old."""
    Trial.objects.filter(created_at__lt=timezone.now() - KEPT).delete()


# --- What a worker does ------------------------------------------------------------------------------------------


def answer(trial_id: str, worker: str) -> None:
    """Write the answers of a trial that no other worker has. A message that comes twice finds nothing to do."""
    waiting = Answer.objects.filter(trial__pk=trial_id, state=State.QUEUED)
    for one in waiting.select_related("policy__project", "policy__endpoint", "trial__project"):
        if _take(one, worker):
            _write(one)


def _take(one: Answer, worker: str) -> bool:
    return one.take(
        worker=worker,
        started_at=Coalesce("started_at", Now()),
        phase="starting",
        share=0,
        text="",
        words_at=None,
    )


def _write(one: Answer) -> None:
    try:
        _keep(one, _by_endpoint(one) if is_endpoint(one.policy) else _by_engine(one))
    except (UnwantedError, StoppedError):
        return
    except EngineRefusalError as refused:  # which may be that its model does not write what it scores
        _fail(one, _explain(one, refused), text="", words_at=None)
    except RefusalError as refused:
        _fail(one, _explain(one, refused))
    except StorageFaultError as error:
        _fail(one, str(error))
    except Exception as error:  # of the storage too, which may still take a sentence
        logger.exception("Answer %s failed", one.pk)
        _fail(one, explain_failure(error))


def _explain(one: Answer, refused: RefusalError) -> str:
    """Return why an answer failed. What an endpoint says names no folder of this machine."""
    if is_endpoint(one.policy):
        return str(refused)
    return tell_reason(logger, f"Answer {one.pk}", str(refused), one.policy.base_model)


def _keep(one: Answer, sample: Mapping[str, Any]) -> None:
    columns = ("completion", "finish_reason", "id", "index")
    rest = {name: value for name, value in sample.items() if name not in columns}
    beside = ("token_ids", "prompt_token_ids", "logprob", "seed", "messages")
    kept = {name: rest.pop(name, None) for name in beside}
    text = make_storable(sample["completion"])
    if text != sample["completion"]:
        kept |= {"token_ids": None, "logprob": None}  # which are of another text
    one.end(
        State.DONE,
        text=text,
        finish_reason=sample["finish_reason"],
        sample=kept | {"sampling": rest},
        share=1,
    )


def _fail(one: Answer, why: str, **fields: Any) -> None:
    one.end(State.FAILED, error=make_storable(why), **fields)


def _hand_back(one: Answer) -> None:
    """Free an answer for another worker, because this one was asked to stop. The waiting page sends it again."""
    Trial.objects.filter(pk=one.trial_id).update(sent_at=None)
    one.hand_back(phase="", share=0)


def _by_engine(one: Answer) -> dict[str, Any]:
    """Return a sample by the warm engine of this process."""
    config = on_this_machine(plan_of(one.policy, one.trial.sampling).config)
    config = replace(config, sampling=replace(config.sampling, samples_per_prompt=1))
    return engine.write(config, one.trial.content, report_to(one), SECONDS, one.trial.tools)


def report_to(one: Answer) -> Tell:
    """Return a function that writes to an answer's row how far it is. The text is written when it has changed."""
    written = ""

    def tell(phase: str, share: float, text: str) -> bool:
        nonlocal written
        if workers.is_stopping(one.worker):
            _hand_back(one)
        draft, changed = make_storable(text[:LONGEST_DRAFT]), dict[str, Any]()
        if draft.strip() and draft != written:
            written, changed = draft, {"text": draft, "words_at": Coalesce("words_at", Now())}
        return one.tell(phase=phase, share=share, **changed)

    return tell


def _by_endpoint(one: Answer) -> dict[str, Any]:
    """Return a sample by an endpoint."""
    sampling = plan_of(one.policy, one.trial.sampling).config.sampling
    given = {name: getattr(sampling, name) for name in ("max_new_tokens", "temperature", "top_p", "seed")}
    endpoint, tell = one.policy.endpoint, report_to(one)
    found = Server(endpoint.url, endpoint.model).write(
        one.trial.content,
        given,
        seconds=SECONDS,
        tools=one.trial.tools,
        tell=lambda text: tell("writing", 0, text),
    )
    return {
        "completion": found["text"],
        "finish_reason": found["finish_reason"],
        "messages": found.get("messages"),
        "model": found["model"],
        "endpoint": endpoint.url,
        **given,
    }
