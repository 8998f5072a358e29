"""The Celery application: `celery -A config worker -B`."""

import os
from typing import Any

from celery import Celery
from celery.platforms import set_pdeathsig  # type: ignore[attr-defined] # its stubs lack it
from celery.signals import beat_embedded_init, worker_init, worker_process_init

from primitives.garbage import keep_what_is_loaded

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("whetstone")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def search_less_for_garbage(**_about: Any) -> None:
    """Prepare a worker for long exports."""
    keep_what_is_loaded()


@worker_init.connect
def end_children_with_worker(**_about: Any) -> None:
    """Let no child outlive a worker that is killed. A beat would go on for ever, beside that of the next worker."""
    worker = os.getpid()

    def end_with_worker(**_about: Any) -> None:
        set_pdeathsig("SIGKILL")  # Celery asks it of the pool alone
        if os.getppid() != worker:  # killed before it could be asked
            os._exit(1)

    for child_starts in (worker_process_init, beat_embedded_init):
        child_starts.connect(end_with_worker, weak=False)
