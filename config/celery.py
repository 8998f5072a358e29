"""The Celery application: `celery -A config worker -B`."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

from primitives.garbage import keep_what_is_loaded

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("whetstone")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def search_less_for_garbage(**_about: Any) -> None:
    """Prepare a worker for long exports."""
    keep_what_is_loaded()
