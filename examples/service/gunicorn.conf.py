"""gunicorn's settings for wsgi.py: three workers, forked from a process that has loaded the model."""

from typing import Any

import bursar

workers = 3
preload_app = True


def when_ready(server: Any) -> None:
    bursar.prefork()  # all is loaded, nobody is forked yet


def post_fork(server: Any, worker: Any) -> None:
    bursar.start("sample", domains="all")  # each worker has books, and so budgets, of its own
