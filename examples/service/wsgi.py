"""The service for gunicorn, with Flask. Its settings, gunicorn.conf.py, put each worker under bursar.

    gunicorn wsgi:application
"""

from typing import Any

from bursar.wsgi import ScopeMiddleware
from flask import Flask, Response, jsonify, request

import model

application = Flask(__name__)


@application.post("/predict")
def predict() -> Response:
    asked: dict[str, Any] = request.get_json()
    return jsonify(id=asked["id"], digits=model.predict(asked["rows"], asked.get("copies", 1)))


@application.post("/explain")
def explain() -> Response:
    asked: dict[str, Any] = request.get_json()
    return jsonify(id=asked["id"], parts=model.explain(asked["row"], asked.get("rounds", 1)))


@application.errorhandler(MemoryError)
def refused(error: MemoryError) -> tuple[Response, int]:
    """Within the request's scope a refusal is a plain MemoryError; what handles it may use the budget's reserve."""
    return jsonify(detail="needs more than its budget"), 503


application.wsgi_app = ScopeMiddleware(application.wsgi_app, hard="64 MiB")  # type: ignore[method-assign]
