"""A hub of models for tests: the part of its interface that a download needs, over folders on this machine."""

import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.local_server import LocalServer, QuietHandler


class Hub(LocalServer):
    """Repositories by id, each with one commit, and a record of what was asked for."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.repositories: dict[str, tuple[str, Path]] = {}
        self.refusals: dict[str, tuple[int, str]] = {}  # by repository: status and error code
        self.asked: list[str] = []


class _Handler(QuietHandler):
    def do_GET(self) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        path = self.path.partition("?")[0].removeprefix("/")
        hub.asked.append(path)
        owner, name, *rest = path.removeprefix("api/models/").split("/")
        if f"{owner}/{name}" in hub.refusals or f"{owner}/{name}" not in hub.repositories:
            status, code = hub.refusals.get(f"{owner}/{name}", (404, "RepoNotFound"))
            self._answer(b"{}", status, {"X-Error-Code": code})
            return
        commit, folder = hub.repositories[f"{owner}/{name}"]
        if rest[:1] == ["revision"] and rest[1] not in ("main", commit):
            self._answer(b"{}", 404, {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("api/"):
            names = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.is_file()]
            tree = [
                {
                    "type": "file",
                    "path": one,
                    "oid": _digest(folder / one),
                    "size": (folder / one).stat().st_size,
                }
                for one in names
            ]
            info = {"id": f"{owner}/{name}", "sha": commit, "siblings": [{"rfilename": one} for one in names]}
            self._answer(json.dumps(tree if rest[:1] == ["tree"] else info).encode())
        else:
            file = folder.joinpath(*rest[2:])
            self._answer(file.read_bytes(), 200, {"ETag": f'"{_digest(file)}"', "X-Repo-Commit": commit})

    do_HEAD = do_GET

    def _answer(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()


def connect(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Let `address` be the hub's."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template)
