"""Calls of tools in a stream: the first part of one names its function, and the others are its arguments."""

from typing import Any

from training.endpoints.answers import misunderstood, read_text, too_long
from training.endpoints.progress import Progress

MOST_CALLS = 128


class Calls:
    """The calls so far, by the index that the server gives them."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.found: dict[int, dict[str, list[str]]] = {}

    def add(self, delta: Any) -> None:
        """Add the parts of an event. Raises EndpointError if they are not of OpenAI's interface, or too long."""
        parts = delta.get("tool_calls") if isinstance(delta, dict) else None
        if not isinstance(parts, list | None) or not all(isinstance(part, dict) for part in parts or ()):
            raise misunderstood()
        for place, part in enumerate(parts or ()):
            function, index = part.get("function") or {}, part.get("index", place)
            if not isinstance(function, dict) or not isinstance(index, int):
                raise misunderstood()
            call = self.found.setdefault(index, {"id": [], "name": [], "arguments": []})
            if len(self.found) > MOST_CALLS:
                raise too_long()
            for name, text in (("id", part.get("id")), *function.items()):
                if name in call:
                    call[name].append(read_text(text))
                    self.progress.count(call[name][-1])

    def read(self) -> list[dict[str, Any]]:
        """Return the calls as a message has them. Raises EndpointError if one names no function."""
        if not all(any(call["name"]) for call in self.found.values()):
            raise misunderstood()
        return [
            {
                **({"id": "".join(call["id"])} if any(call["id"]) else {}),
                "type": "function",
                "function": {name: "".join(call[name]) for name in ("name", "arguments")},
            }
            for _index, call in sorted(self.found.items())
        ]
