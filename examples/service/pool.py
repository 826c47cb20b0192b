"""The service with a pool of eight threads and no framework: a scope is a function's decorator.

    python pool.py [PORT]
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import bursar

import model

Answer = dict[str, Any]


@bursar.scope("predict", hard="64 MiB")
def predict(asked: Answer) -> Answer:
    return {"id": asked["id"], "digits": model.predict(asked["rows"], asked.get("copies", 1))}


@bursar.scope("explain", hard="64 MiB")
def explain(asked: Answer) -> Answer:
    return {"id": asked["id"], "parts": model.explain(asked["row"], asked.get("rounds", 1))}


ROUTES: dict[str, Callable[[Answer], Answer]] = {"/predict": predict, "/explain": explain}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            answer, status = ROUTES[self.path](asked), 200
        except bursar.BudgetExceeded as error:
            answer, status = {"detail": str(error)}, 503
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    pool = ThreadPoolExecutor(8)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.pool.submit(self.process_request_thread, request, client_address)


if __name__ == "__main__":
    bursar.start("sample", domains="all")
    with bursar.governor(), Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8000), Handler) as server:
        server.serve_forever()
