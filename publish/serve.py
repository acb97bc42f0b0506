"""Serve the rendered site on this machine."""

from __future__ import annotations

import functools
import http.server
from pathlib import Path


class Handler(http.server.SimpleHTTPRequestHandler):
    """Static files; what is missing gets the site's own 404 page."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".wasm": "application/wasm"}

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer 404 with the site's page."""
        page = Path(self.directory) / "404.html"
        if code != 404 or not page.exists():
            super().send_error(code, message, explain)
            return
        body = page.read_bytes()
        self.send_response(404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""


def server(site: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server of `site` on this machine's loopback; port 0 takes any that is free."""
    if not (site / "index.html").exists():
        raise ValueError(f"{site} holds no site yet; make one with: make site (or python -m publish render)")
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=str(site)))
    except OSError as error:
        raise ValueError(f"port {port} cannot be used ({error.strerror}); name another with --port") from error


def serve(site: Path, port: int = 4200) -> None:
    """Serve `site` until Ctrl-C, and print its address."""
    with server(site, port) as running:
        print(f"the site is at http://localhost:{running.server_port} (Ctrl-C ends it)", flush=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            print()
