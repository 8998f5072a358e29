"""Connections to endpoints: to the address that was checked, and read in short steps until a deadline."""

import http.client
import socket
import ssl
from typing import Any

from primitives.sockets import PatientSocket
from training.endpoints.addresses import Place
from training.endpoints.progress import Progress

CONNECT_SECONDS = 20.0  # for each of connecting, the handshake, and sending


class Connection(http.client.HTTPConnection):
    """A connection to the address that was checked, under the name of its host. It follows no redirect.

    Each step of waiting is a step of `progress`, which may raise.
    """

    def __init__(self, place: Place, progress: Progress, until: float) -> None:
        super().__init__(place.host, place.port)
        self.place, self.address, self.progress, self.until = place, place.connect_to(), progress, until
        if place.scheme == "https":
            self.default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        self.progress.step()
        found = socket.create_connection((self.address, self.port), CONNECT_SECONDS)
        try:
            self.progress.step()
            if self.place.scheme == "https":
                found = ssl.create_default_context().wrap_socket(found, server_hostname=self.host)
                self.progress.step()
        except BaseException:
            found.close()
            raise
        self.sock: Any = PatientSocket(found, self.until, self.progress.step)
