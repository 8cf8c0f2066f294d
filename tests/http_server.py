"""A small HTTP server of a test's own, on a loopback port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class QuietHandler(BaseHTTPRequestHandler):
    """Answers as its subclass says, and writes nothing to stderr."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def open_http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve for the length of the block. Gives the URL of the server, without a path."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
