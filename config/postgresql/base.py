"""Django's PostgreSQL backend, with a health check that costs no round trip.

`CONN_HEALTH_CHECKS` asks the server at the start of each request that reuses a connection. A server that was
restarted has closed it, which the socket knows by itself: there is something to read before anything was asked.
"""

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def is_usable(self) -> bool:
        if self.connection is None or self.connection.closed:
            return False
        socket = select.poll()
        socket.register(self.connection.fileno(), select.POLLIN)
        return super().is_usable() if socket.poll(0) else True
