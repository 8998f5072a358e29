"""Celery's tasks of annotate: fetch, call, return."""

import logging

from celery import shared_task

from annotate.exports import jobs
from annotate.forms.exports import read_selection
from annotate.imports.files import reception
from annotate.models import StoredAnswer

logger = logging.getLogger(__name__)


@shared_task(name=jobs.TASK)
def write_export(job_id: str) -> None:
    """Write a file that was asked for. A message that arrives twice, or too late, finds nothing to do."""
    jobs.write(job_id, read_selection)


@shared_task(name="annotate.tasks.sweep_exports")
def sweep_exports() -> None:
    """Delete what has expired as beat asks for now and then: files of exports and imports, and stored answers."""
    jobs.sweep()
    reception.sweep()
    StoredAnswer.objects.expired().delete()


@shared_task(name="annotate.tasks.look_after_exports")
def look_after_exports() -> None:
    """Have files written whose message or writer was lost, as beat asks for."""
    jobs.look_after_all(send)


def send(job_id: str) -> None:
    """Tell a worker of a job. If the broker is away, the page has the file written."""
    try:
        write_export.apply_async((job_id,), retry=False, expires=jobs.MESSAGE_LIFE.total_seconds())
    except Exception as error:  # noqa: BLE001 - every broker has errors of its own
        logger.warning("The broker could not be told of export %s: %s", job_id, error)
