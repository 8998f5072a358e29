"""Connections to endpoints: to the address that was checked, and read in short steps until a deadline.

A timeout of the socket alone bounds each read and not their number: a server that sends a byte now and then would be
waited for without end.
"""

import http.client
import io
import socket
import ssl
import time
from contextlib import suppress
from typing import Any

from training.endpoints.addresses import Place
from training.endpoints.progress import PACE, Progress

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
        self.sock: Any = _PatientSocket(found, self.progress, self.until)


class _PatientSocket:
    """A socket as http.client uses it, which is read in steps."""

    def __init__(self, sock: socket.socket, progress: Progress, until: float) -> None:
        self.sock, self.progress, self.until = sock, progress, until
        self.sendall, self.close = sock.sendall, sock.close

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Steps(self))


class _Steps(io.RawIOBase):
    """The bytes that a socket receives."""

    def __init__(self, patient: _PatientSocket) -> None:
        self.patient = patient
        # It keeps the socket open, which http.client closes before the answer is read.
        self.open = patient.sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            self.patient.progress.step()
            left = self.patient.until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.patient.sock.settimeout(min(PACE, left))
            with suppress(TimeoutError):
                return self.patient.sock.recv_into(buffer)

    def close(self) -> None:
        self.open.close()
        super().close()
