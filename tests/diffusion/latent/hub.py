"""A hub on this machine, with one repository: enough of the real one for its own client to fetch from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "c" * 40


@contextmanager
def serve(name: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder as the repository `name`; yield the address, and the paths of the files that are fetched."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    fetched: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{name}/revision/"):
                known = path.rpartition("/")[2] in ("main", COMMIT)
                listed = [{"rfilename": file} for file in files]
                self.say(json.dumps({"id": name, "sha": COMMIT, "siblings": listed}), None if known else "Revision")
            elif path.startswith(f"/api/models/{name}/tree/"):
                self.say(
                    json.dumps(
                        [{"type": "file", "path": f, "size": len(raw), "oid": sha(raw)} for f, raw in files.items()]
                    )
                )
            elif path.startswith(f"/{name}/resolve/{COMMIT}/"):
                file = path.removeprefix(f"/{name}/resolve/{COMMIT}/")
                fetched.extend([file] if body else [])
                self.say(files[file], body=body)
            else:
                self.say("", "Repo")

        def say(self, raw: str | bytes, missing: str | None = None, *, body: bool = True) -> None:
            raw = raw.encode() if isinstance(raw, str) else raw
            self.send_response(404 if missing else 200)
            self.send_header("Content-Length", str(0 if missing else len(raw)))
            self.send_header("Content-Type", "application/json")
            self.send_header("ETag", f'"{sha(raw)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if missing:
                self.send_header("X-Error-Code", f"{missing}NotFound")
            self.end_headers()
            if body and not missing:
                self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()


def sha(raw: bytes) -> str:
    """Return what the hub calls a file by."""
    return hashlib.sha1(raw).hexdigest()
