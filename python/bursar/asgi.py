"""ScopeMiddleware for ASGI applications (Starlette, FastAPI and others): each request is a scope.

    app.add_middleware(ScopeMiddleware)    with Starlette or FastAPI
    app = ScopeMiddleware(app)             with any ASGI application
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from . import _bursar
from ._admit import REFUSAL, NoRoom, admitted, gate, refusal_headers, seconds_of, shed
from ._scopes import entered

__all__ = ["ScopeMiddleware"]

_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

# A method is the client's choice: others would make a name each.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
NO_ROUTE = "(no route)"
_DEPTH = 16  # of applications within applications
_FOUND = 1024  # paths whose template is remembered
# What these ask is the kind, the method and the path alone.
_PLAIN = frozenset({
    ("starlette.routing", "Route.matches"), ("starlette.routing", "WebSocketRoute.matches"),
    ("fastapi.routing", "APIRoute.matches"), ("fastapi.routing", "APIWebSocketRoute.matches"),
})  # fmt: skip


class ScopeMiddleware:
    """Charge each request to a scope named by its method and its route's template: ``GET /items/{id}``.

    app: the application, or the next middleware.
    route: tells the template of a request from its ASGI scope, for frameworks whose routes are not found: those of
        Starlette, FastAPI and what is built on them are.  None from it: the request has no route.
    events: also note when each request began and ended.
    left_open: what is done about resources that a request leaves open, as bursar.scope() has it.
    hard, soft, on_soft: the budget of each request, likewise.
    admit: seconds that a request waits where there is no room for it (bursar.admit()); then it is answered with 503 and
        Retry-After, and a websocket is closed with 1013.  0: at once.  None: every request is let in.

    A name never holds a path: what matches no route is ``GET (no route)``, and what matches an application that is
    mounted and has no routes of its own is ``GET /static/*``.  The template is looked up before the request is
    handled, by asking the routes in their order, as the framework does.  The scope lasts until the application has
    returned, so a streaming response is in it to its last byte, and so are its background tasks.  A websocket is
    ``WEBSOCKET /chat/{room}`` while it is open; lifespan is no scope.  Exceptions pass
    unchanged, but for what a hard budget makes BudgetExceeded.
    """

    def __init__(
        self,
        app: _App,
        route: Callable[[_Scope], str | None] | None = None,
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
        self._table = _Table()
        self._admits, self._wait = admit is not None, seconds_of(admit, "admit")

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        kind = scope.get("type")
        if kind not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        entry = _bursar.Scope(self._name(scope, kind), **self._options)
        if not self._admits:
            with entered(entry):
                await self.app(scope, receive, send)
            return
        no = await admitted(entry, None, self._wait)
        if no is not None:
            shed(no)
            await _turn_away(no, kind, send)
            return
        try:
            with entered(entry):
                await self.app(scope, receive, send)
        finally:
            gate.give(entry)

    def _name(self, scope: _Scope, kind: str) -> str:
        method = scope.get("method", "") if kind == "http" else "WEBSOCKET"
        if kind == "http" and method not in METHODS:
            method = "(other method)"
        try:
            template = (
                self._route(scope) if self._route is not None else self._table.template(_routes(self.app, scope), scope)
            )
        except Exception:  # a request is never refused for the sake of its name
            template = None
        return f"{method} {template if isinstance(template, str) and template else NO_ROUTE}"


async def _turn_away(no: NoRoom, kind: str, send: _Send) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1013, "reason": "no memory for one more"})
        return
    headers = [(name.encode(), value.encode()) for name, value in refusal_headers(no)]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSAL})


def _routes(app: object, scope: _Scope) -> Sequence[Any]:
    """The routes of the application: of the one that Starlette names in the scope, else of the nearest one within."""
    candidate: Any = scope.get("app")
    for _ in range(_DEPTH):
        routes = getattr(candidate, "routes", None)
        if isinstance(routes, (list, tuple)):
            return routes
        candidate = app if candidate is None else getattr(candidate, "app", None)
        if candidate is None:
            break
    return ()


class _Table:
    """Remembers what was found, as long as the routes are the same: else each is asked twice for each request."""

    def __init__(self) -> None:
        self._routes: Sequence[Any] = ()
        self._plain = 0  # the first ones, which ask nothing that is not in the key
        self._found: dict[tuple[object, ...], str] = {}

    def template(self, routes: Sequence[Any], scope: _Scope) -> str | None:
        if self._routes != routes:
            self._routes, self._found = routes[:], {}
            self._plain = next((n for n, route in enumerate(routes) if not _is_plain(route)), len(routes))
        key = (scope["type"], scope.get("method"), scope["path"], scope.get("root_path"))
        found = self._found.get(key)
        if found is None:
            found = next((route.path for route in routes[: self._plain] if route.matches(scope)[0].value == 2), None)
            if found is None:
                return _template(routes, scope)
            if len(self._found) >= _FOUND:
                self._found = {}
            self._found[key] = found
        return found


def _is_plain(route: object) -> bool:
    matches = getattr(type(route), "matches", None)
    return (getattr(matches, "__module__", ""), getattr(matches, "__qualname__", "")) in _PLAIN


def _template(routes: Sequence[Any], scope: _Scope, prefix: str = "", depth: int = _DEPTH) -> str | None:
    """The template of the first route that matches, as the router would choose: whole matches before those by path."""
    partial: str | None = None
    for route in routes:
        match, child = route.matches(scope)
        if match.value == 0:
            continue
        path = prefix + getattr(route, "path", "")
        inner = getattr(route, "routes", None)
        if isinstance(inner, (list, tuple)) and not hasattr(route, "endpoint") and depth:
            if not inner:
                return path + "/*"
            return _template(inner, {**scope, **child}, path, depth - 1)
        if match.value == 2:
            return path
        partial = partial or path
    return partial
