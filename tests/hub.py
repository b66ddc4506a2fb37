"""A Hub on this machine: repositories in memory, with as much of its HTTP as packs need.

    with Hub() as hub:
        env = {"HF_ENDPOINT": hub.url, ...}
"""

import base64
import json
import re
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """Serves its repositories on a free port of 127.0.0.1 for as long as it is entered."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.commits: dict[str, dict[str, Files]] = {}
        """By repository and commit, the oldest first."""
        self.created: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.asked: list[str] = []

    def __enter__(self) -> "Hub":
        self.thread = Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()

    def commit(self, repository: str, files: Files) -> str:
        """Adds files to a repository; gives the commit's id."""
        known = self.commits.setdefault(repository, {})
        whole = {**(list(known.values())[-1] if known else {}), **files}
        name = sha1(json.dumps([repository, len(known)]).encode()).hexdigest()
        known[name] = whole
        return name

    def at(self, repository: str, revision: str) -> tuple[str, Files] | None:
        """The commit that a revision names, and its files."""
        known = self.commits.get(repository, {})
        name = list(known)[-1] if revision == "main" and known else revision
        return (name, known[name]) if name in known else None


class _Handler(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.path):
            self._info(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(\w+)\?.*", self.path):
            self._tree(*found.groups())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            self._file(*found.groups())
        else:
            self._say(404)

    do_HEAD = do_GET

    def _info(self, repository: str, revision: str) -> None:
        if (found := self.server.at(repository, revision)) is None:
            return self._say(404, code="RepoNotFound")
        name, files = found
        return self._json({"id": repository, "sha": name, "private": False, "tags": [],
                           "siblings": [{"rfilename": file} for file in files]})

    def _tree(self, repository: str, revision: str) -> None:
        found = self.server.at(repository, revision)
        self._json([{"type": "file", "path": name, "size": len(data), "oid": sha1(data).hexdigest()}
                    for name, data in (found[1] if found else {}).items()])

    def _file(self, repository: str, revision: str, file: str) -> None:
        found = self.server.at(repository, revision)
        if found is None or file not in found[1]:
            return self._say(404, code="EntryNotFound")
        data = found[1][file]
        return self._say(200, data, {"X-Repo-Commit": found[0], "ETag": sha1(data).hexdigest()})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.tokens.add(self.headers["Authorization"])
        answers: dict[str, Callable[[bytes], Any]] = {
            r"/api/repos/create": self._create,
            r"/api/validate-yaml": lambda _: {"errors": [], "warnings": []},
            r"/api/models/.*/preupload/main": self._preupload,
            r"/api/models/(?P<name>.*)/commit/main": self._commit}
        for pattern, answer in answers.items():
            if re.fullmatch(pattern, self.path.partition("?")[0]):
                return self._json(answer(body))
        return self._say(404)

    def _create(self, body: bytes) -> dict[str, Any]:
        asked = json.loads(body)
        self.server.created.append(asked)
        return {"url": f"{self.server.url}/{asked.get('organization')}/{asked['name']}"}

    def _preupload(self, body: bytes) -> dict[str, Any]:
        return {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                          for file in json.loads(body)["files"]]}

    def _commit(self, body: bytes) -> dict[str, Any]:
        repository = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
        lines = [json.loads(line) for line in body.splitlines()]
        name = self.server.commit(repository, {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines if line["key"] == "file"})
        return {"commitUrl": f"{self.server.url}/{repository}/commit/{name}", "commitOid": name}

    def _json(self, body: Any) -> None:
        self._say(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _say(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None,
             code: str = "") -> None:
        with suppress(ConnectionError):  # who asked may have gone
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {}),
                                **({"X-Error-Code": code} if code else {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""
