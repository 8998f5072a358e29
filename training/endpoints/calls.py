"""Calls of tools in a stream: the first part of one names its function, and the others are its arguments."""

from typing import Any

from training.endpoints.answers import make_form_error, make_length_error, read_text
from training.endpoints.progress import Progress

MOST_CALLS = 128


class Calls:
    """The calls so far, by the index that the server gives them."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.found: dict[int, dict[str, list[str]]] = {}
        self.last = 0  # the index of the call that the latest part is of

    def add(self, delta: Any) -> None:
        """Add the parts of an event. Raises EndpointError if they are not of OpenAI's interface, or too long."""
        parts = delta.get("tool_calls") if isinstance(delta, dict) else None
        if not isinstance(parts, list | None) or not all(isinstance(part, dict) for part in parts or ()):
            raise make_form_error()
        for part in parts or ():
            function, index = part.get("function") or {}, part.get("index")
            if not isinstance(function, dict) or not isinstance(index, int | None):
                raise make_form_error()
            given = {
                "id": part.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments"),
            }
            self._add(index, {name: read_text(text) for name, text in given.items()})

    def _add(self, index: int | None, given: dict[str, str]) -> None:
        """Add a part to its call. Without an index it begins a call if its id, or else a name, does."""
        last = self.found.get(self.last)
        if index is not None:
            self.last = index
        elif last is None or ([given["id"]] != last["id"] if given["id"] else given["name"]):
            self.last = max(self.found, default=-1) + 1
        else:  # some servers repeat both with each part
            given = {
                name: "" if name != "arguments" and last[name] == [text] else text
                for name, text in given.items()
            }
        call = self.found.setdefault(self.last, {"id": [], "name": [], "arguments": []})
        if len(self.found) > MOST_CALLS:
            raise make_length_error()
        for name, text in given.items():
            if text:
                call[name].append(text)
                self.progress.count(text)

    def read(self) -> list[dict[str, Any]]:
        """Return the calls as a message has them. Raises EndpointError if one names no function."""
        if not all(any(call["name"]) for call in self.found.values()):
            raise make_form_error()
        return [
            {
                **({"id": "".join(call["id"])} if any(call["id"]) else {}),
                "type": "function",
                "function": {name: "".join(call[name]) for name in ("name", "arguments")},
            }
            for _index, call in sorted(self.found.items())
        ]
