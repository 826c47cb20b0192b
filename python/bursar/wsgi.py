"""ScopeMiddleware for WSGI applications (Flask and others): each request is a scope.

    app.wsgi_app = ScopeMiddleware(app.wsgi_app)    with Flask
    application = ScopeMiddleware(application)      with any WSGI application
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import _bursar
from ._admit import REFUSAL, admitted_here, gate, refusal_headers, seconds_of, shed
from ._scopes import Steps
from .asgi import METHODS

__all__ = ["ScopeMiddleware"]

_Environ = dict[str, Any]
_App = Callable[[_Environ, Callable[..., Any]], Iterable[bytes]]

NO_ROUTE = "wsgi.(no route)"
_DEPTH = 16


class ScopeMiddleware:
    """Charge each request to a scope named by its method and its route's template: ``GET /items/<int:id>``.

    app: the application, or the next middleware.
    route: tells the template of a request from its environ, for frameworks whose routes are not found: those of Flask
        and of others with werkzeug's `url_map` are.  None from it: the request has no route.
    events: also note when each request began and ended.
    left_open: what is done about resources that a request leaves open, as bursar.scope() has it.
    hard, soft, on_soft: the budget of each request, likewise.
    admit: seconds that a request waits where there is no room for it (bursar.admit()); then it is answered with 503 and
        Retry-After.  0: at once.  None: every request is let in.

    A name never holds a path: a request without a route is ``wsgi.(no route)``.  The scope lasts until the body is
    closed; while the server has a part of it in its hands, the server is not in the scope.  Exceptions pass unchanged,
    but for what a hard budget makes BudgetExceeded.
    """

    def __init__(
        self,
        app: _App,
        route: Callable[[_Environ], str | None] | None = None,
        *,
        events: bool = False,
        left_open: str | None = None,
        hard: int | str | None = None,
        soft: int | str | None = None,
        on_soft: Callable[[_bursar.Scope], object] | None = None,
        admit: float | None = None,
    ) -> None:
        self.app = app
        self._route = route
        self._options: dict[str, Any] = {"events": events, "left_open": left_open}
        self._options |= {"hard": hard, "soft": soft, "on_soft": on_soft}
        _bursar.Scope("budget", **self._options)  # what is wrong with it is told now
        self._admits, self._wait = admit is not None, seconds_of(admit, "admit")

    def __call__(self, environ: _Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        entry = _bursar.Scope(self._name(environ), **self._options)
        no = admitted_here(entry, None, self._wait) if self._admits else None
        if no is not None:
            shed(no)
            start_response("503 Service Unavailable", refusal_headers(no))
            return [REFUSAL]
        with _Begun(entry) as begun:
            body = self.app(environ, start_response)
            wrapper = environ.get("wsgi.file_wrapper")
            whole = isinstance(body, (list, tuple)) or (isinstance(wrapper, type) and isinstance(body, wrapper))
            if not whole:
                return begun.go_on(body)
        return body  # there is nothing left to do for the application, and servers know such bodies by their type

    def _name(self, environ: _Environ) -> str:
        try:
            template = self._route(environ) if self._route is not None else _template(self.app, environ)
        except Exception:  # a request is never refused for the sake of its name
            template = None
        if not isinstance(template, str) or not template:
            return NO_ROUTE
        method = environ.get("REQUEST_METHOD", "")
        return f"{method if method in METHODS else '(other method)'} {template}"


class _Begun:
    """The application's call: its end is the entry's, unless a body goes on."""

    def __init__(self, entry: _bursar.Scope) -> None:
        self._entry = entry
        self._goes_on = False

    def __enter__(self) -> _Begun:
        try:
            self._entry.__enter__()
        except BaseException:
            gate.give(self._entry)
            raise
        return self

    def go_on(self, body: Iterable[bytes]) -> _Body:
        self._goes_on = True
        return _Body(body, self._entry)

    def __exit__(self, *error: Any) -> None:
        if not self._goes_on:
            _end(self._entry, *error)


class _Body:
    """A response's body, whose parts are made in the scope."""

    def __init__(self, body: Iterable[bytes], entry: _bursar.Scope) -> None:
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._entry: _bursar.Scope | None = entry
        self._steps = Steps(None, entry)
        self._steps.suspend()

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        if self._entry is None:
            raise StopIteration
        self._steps.resume()
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            return next(self._iterator)
        finally:
            self._steps.suspend()

    def close(self) -> None:
        """The server's last call, whatever became of the request."""
        entry, self._entry = self._entry, None
        if entry is None:
            return
        self._steps.resume()
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            del self._body
            self._iterator = None
            _end(entry, None, None, None)


def _end(entry: _bursar.Scope, *error: Any) -> None:
    try:
        entry.__exit__(*error)
    finally:
        gate.give(entry)


def _template(app: Any, environ: _Environ) -> str | None:
    """The rule of werkzeug's map that the request matches."""
    for _ in range(_DEPTH):
        url_map = getattr(app, "url_map", None)
        if url_map is not None and hasattr(url_map, "bind_to_environ"):
            rule, _values = url_map.bind_to_environ(environ).match(return_rule=True)
            return str(rule.rule)
        owner = getattr(app, "__self__", None)  # Flask's wsgi_app is a method of the application
        app = owner if owner is not None else getattr(app, "app", None)
        if app is None:
            break
    return None
