"""A client that goes away in the middle of its request."""

import http.server
import os
import socket
from typing import Any

import bursar
import waiting


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):
            raise ConnectionError(f"only {body!r}")

    def log_message(self, *_: Any) -> None:
        pass


class Server(http.server.HTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


server = Server(("127.0.0.1", 0), Handler)
if os.fork() == 0:
    body = (waiting.folder / "secret.json").read_bytes()
    with socket.create_connection(server.server_address[:2]) as client:
        client.sendall(b"POST /login HTTP/1.1\r\nAuthorization: Bearer %s\r\nContent-Length: 9999\r\n\r\n" % body)
        client.sendall(body)
    os._exit(0)
os.wait()
with bursar.scope("work", wipe=True):
    server.handle_request()
bursar.wipe_caches()
waiting.ready()
