"""The Celery application: `celery -A config worker -B`."""

import gc
import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("whetstone")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def keep_what_is_loaded(**_about: Any) -> None:
    """Never search for garbage among what is loaded. It would take a third of the time of a long export."""
    gc.freeze()
