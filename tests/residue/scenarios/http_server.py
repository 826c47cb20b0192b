"""An HTTP server that is sent a JSON body."""

import http.server
import json
import os
import socket
from typing import Any

import bursar
import waiting


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"accepted": len(body["password"]) == 32}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
if os.fork() == 0:
    body = (waiting.folder / "secret.json").read_bytes()
    with socket.create_connection(server.server_address[:2]) as client:
        client.sendall(b"POST /login HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        client.recv(4096)
    os._exit(0)
with bursar.scope("work", wipe=True):
    server.handle_request()
os.wait()
waiting.ready()
