"""A hub of datasets and models for tests: the part of its interface that a push needs, and what was pushed."""

import base64
import json

from tests.local_server import LocalServer, QuietHandler


class Hub(LocalServer):
    """Repositories by id: whether each is private, and its files. `token` is the one that may write."""

    def __init__(self, token: str) -> None:
        super().__init__(_Handler)
        self.token = token
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}


class _Handler(QuietHandler):
    def do_POST(self) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif self.headers["Authorization"] != f"Bearer {hub.token}":
            self._answer({"error": "Invalid credentials"}, 401)
        elif path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted.get('organization') or 'ours'}/{wanted['name']}"
            if name.startswith("theirs/"):
                self._answer({"error": "You may not"}, 403)
                return
            hub.private.setdefault(name, wanted.get("visibility") == "private")
            hub.files.setdefault(name, {})
            place = "" if wanted.get("type", "model") == "model" else "datasets/"
            self._answer({"url": f"{hub.address}/{place}{name}", "id": "1"})
        elif "/preupload/" in path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        else:
            self._commit(hub, _repository(path).partition("/commit/")[0], body)

    def _commit(self, hub: Hub, name: str, body: bytes) -> None:
        for line in body.splitlines():
            step = json.loads(line)
            if step["key"] == "file":
                hub.files[name][step["value"]["path"]] = base64.b64decode(step["value"]["content"])
            elif step["key"] == "deletedFile":
                del hub.files[name][step["value"]["path"]]
        url = f"{hub.address}/datasets/{name}/commit/1"
        self._answer({"success": True, "commitOid": "1", "commitUrl": url, "hookOutput": ""})

    def do_GET(self) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        name = "/".join(_repository(self.path).split("/")[:2]).partition("?")[0]
        if name not in hub.files:
            self._answer({"error": "Repository not found"}, 404, "RepoNotFound")
            return
        tree = [
            {"type": "file", "path": path, "oid": "1", "size": len(content)}
            for path, content in hub.files.get(name, {}).items()
        ]
        siblings = [{"rfilename": one["path"]} for one in tree]
        info = {"id": name, "sha": "1", "siblings": siblings, "private": hub.private.get(name), "tags": []}
        self._answer(tree if "/tree/" in self.path else info)

    def _answer(self, content: object, status: int = 200, code: str = "") -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)


def _repository(path: str) -> str:
    """Return what comes behind the kind of repository in an address."""
    return path.removeprefix("/api/datasets/").removeprefix("/api/models/")
