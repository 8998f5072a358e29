"""Celery's tasks of annotate: fetch, call, return."""

import logging
from typing import Any

from celery import shared_task

from annotate.attempts import MESSAGE_LIFE
from annotate.exports import jobs
from annotate.forms.exports import read_selection
from annotate.imports.files import reception
from annotate.models import StoredAnswer
from annotate.pairs.frozen import jobs as snapshot_jobs

logger = logging.getLogger(__name__)


@shared_task(name=jobs.TASK)
def write_export(job_id: str) -> None:
    """Write a file that was asked for. A message that arrives twice, or too late, finds nothing to do."""
    jobs.write(job_id, read_selection)


@shared_task(name=snapshot_jobs.TASK)
def take_snapshot(job_id: str) -> None:
    """Take a snapshot that was asked for. A message that arrives twice, or too late, finds nothing to do."""
    snapshot_jobs.take(job_id)


@shared_task(name="annotate.tasks.sweep_exports")
def sweep_exports() -> None:
    """Delete what has expired as beat asks for now and then: files of exports and imports, jobs, stored answers."""
    jobs.sweep()
    snapshot_jobs.sweep()
    reception.sweep()
    StoredAnswer.objects.expired().delete()


@shared_task(name="annotate.tasks.look_after_exports")
def look_after_exports() -> None:
    """Have files written, and snapshots taken, whose message or worker was lost, as beat asks for."""
    jobs.look_after_all(send)
    snapshot_jobs.look_after_all(send_snapshot)


def send(job_id: str) -> None:
    """Tell a worker of an export. If the broker is away, the page has the file written."""
    _send(write_export, job_id)


def send_snapshot(job_id: str) -> None:
    """Tell a worker of a snapshot. If the broker is away, the page has it taken."""
    _send(take_snapshot, job_id)


def _send(task: Any, job_id: str) -> None:
    try:
        task.apply_async((job_id,), retry=False, expires=MESSAGE_LIFE.total_seconds())
    except Exception as error:  # noqa: BLE001 - every broker has errors of its own
        logger.warning("The broker could not be told of %s %s: %s", task.name, job_id, error)
