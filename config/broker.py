"""Celery's filesystem broker, made safe to kill: a message appears whole, and a torn one ends no worker.

The transport that comes with kombu writes a message in place. A worker that looks at the wrong moment, or after a
power cut, reads half of it and ends with an error. Messages here are hints about rows; losing one costs the seconds
until the next sweep.
"""

import logging
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps

from primitives.files import write_whole

logger = logging.getLogger(__name__)


class Channel(filesystem.Channel):
    # The base classes of kombu disagree on the second name, so no override can agree with both.
    def _put(self, queue: str, payload: Any, **_options: Any) -> None:  # type: ignore[override] # as kombu calls it
        """Write a message whole. Its name sorts by time, and ends as the base class looks for it."""
        folder = Path(self.data_folder_out)
        name = f"{time.time_ns():020d}_{uuid.uuid4()}.{queue}.msg"
        write_whole(folder / name, dumps(payload).encode(), durable=False)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        """Return the next whole message. Raises Empty if there is none."""
        while True:
            try:
                return super()._get(queue)
            except ValueError:
                logger.warning("A torn message on queue %s was dropped.", queue)


class Transport(filesystem.Transport):
    Channel = Channel
