"""Sockets that are read until a deadline.

A timeout of the socket alone bounds each read and not their number: a server that sends a byte now and then would be
waited for without end.
"""

import io
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PACE = 0.5  # seconds


class PatientSocket:
    """A socket as http.client uses it, which is read in short steps until a time.

    `step` is called before each of them, and may raise. Raises TimeoutError past the deadline.
    """

    def __init__(self, sock: socket.socket, until: float, step: Callable[[], None] = lambda: None) -> None:
        self.sock, self.until, self.step = sock, until, step
        self.sendall, self.close = sock.sendall, sock.close

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Steps(self))


class _Steps(io.RawIOBase):
    """The bytes that a socket receives."""

    def __init__(self, patient: PatientSocket) -> None:
        self.patient = patient
        # It keeps the socket open, which http.client closes before the answer is read.
        self.open = patient.sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            self.patient.step()
            left = self.patient.until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.patient.sock.settimeout(min(PACE, left))
            with suppress(TimeoutError):
                return self.patient.sock.recv_into(buffer)

    def close(self) -> None:
        self.open.close()
        super().close()
