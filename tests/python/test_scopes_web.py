"""The middleware: a request is a scope, named by its method and its route's template, never by its path."""

from pathlib import Path

import pytest
from programs import Program, printed, program
from running import Facts
from test_scopes import ON as BOOKS
from test_scopes import by_name

__all__ = ["program"]

# Larger than a node of pymalloc's map of arenas (programs.ARENA_MAP), which by chance some scope has.
UNIT = 200_000
ON = BOOKS + 'one = b"xx"\n'

# A client made of nothing: a request's messages, and its response as the server would have it.
ASGI = (
    ON
    + """\
from bursar.asgi import ScopeMiddleware
kept = []

def ask(app, method, path, kind="http", scopes=None, **more):
    sent = []
    async def receive(): return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message): sent.append(message)
    scope = {"type": kind, "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
             "headers": [], "server": ("test", 80), "scheme": "http", "http_version": "1.1", **more}
    if kind == "http": scope["method"] = method
    asyncio.run(app(scope, receive, send))
    return sent

def start(status=200): return {"type": "http.response.start", "status": status, "headers": []}
def body(data, more=False): return {"type": "http.response.body", "body": data, "more_body": more}
"""
)


@pytest.mark.core
def test_any_asgi_application(program: Program, facts: Facts, tmp_path: Path) -> None:
    done = program(
        ASGI + "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan': kept.append(one * 500000); return\n"
        "    if scope['path'] == '/fails': raise error\n"
        "    kept.append(one * 100000)\n"
        "    await asyncio.sleep(0)\n"
        "    await send(start())\n"
        "    for part in range(3):\n"
        "        await asyncio.sleep(0)\n"
        "        kept.append(one * 200000)\n"
        "        await send(body(b'part', part < 2))\n"
        "    kept.append(one * 300000)\n"  # a background task
        "error = KeyError('k')\n"
        "wrapped = ScopeMiddleware(app, events=True)\n"
        "sent = ask(wrapped, 'GET', '/secret/4711')\n"
        "try: ask(wrapped, 'GET', '/fails')\n"
        "except KeyError as caught: print(caught is error)\n"
        "ask(wrapped, 'BREW', '/secret'); ask(wrapped, '', '', kind='lifespan')\n"
        "ask(wrapped, '', '/x', kind='websocket')\n"
        "ask(ScopeMiddleware(app, route=lambda scope: '/by/{hand}'), 'POST', '/secret')\n"
        "ask(ScopeMiddleware(app, route=lambda scope: 1 / 0), 'PUT', '/secret')\n"
        "print(len(sent))\n"
    )
    assert done.stdout.split() == ["True", "4"]
    read = facts(tmp_path / "test.bursar")
    names = by_name(read)
    assert set(names) == {
        "GET (no route)", "(other method) (no route)", "WEBSOCKET (no route)", "POST /by/{hand}", "PUT (no route)",
    }  # fmt: skip
    assert names["GET (no route)"]["calls"] == 2
    assert {scope["retained_bytes"] // UNIT for scope in names.values()} == {10}
    assert [event["kind"] for event in read["events"]].count("ended") == 4
    assert "secret" not in str(names)


@pytest.mark.core
def test_requests_at_the_same_time(program: Program, facts: Facts, tmp_path: Path) -> None:
    done = program(
        ASGI + "async def app(scope, receive, send):\n"
        "    n = scope['n']\n"
        "    for _ in range(n):\n"
        "        kept.append(one * 100000); await asyncio.sleep(0)\n"
        "    await send(start()); await send(body(b''))\n"
        "wrapped = ScopeMiddleware(app, route=lambda scope: f\"/{scope['n']}\")\n"
        "async def main():\n"
        "    async def send(message): pass\n"
        "    await asyncio.gather(*(wrapped({'type': 'http', 'method': 'GET', 'path': '/', 'n': i % 10}, None, send)\n"
        "                           for i in range(200)))\n"
        "asyncio.run(main())\n"
        "print('fine')\n"
    )
    assert done.stdout == "fine\n"
    read = by_name(facts(tmp_path / "test.bursar"))
    assert {n: read[f"GET /{n}"]["live_bytes"] // UNIT for n in range(10)} == {n: 20 * n for n in range(10)}


STARLETTE = """\
import warnings; warnings.simplefilter("ignore")
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.background import BackgroundTask
from starlette.testclient import TestClient

async def item(request):
    kept.append(one * 100000)
    return PlainTextResponse("item")

def blocking(request):  # in a thread of a pool, which Starlette carries the context into
    kept.append(one * 200000)
    return PlainTextResponse("blocking")

async def stream(request):
    async def parts():
        for _ in range(3):
            kept.append(one * 100000)
            yield b"part"
    def after(): kept.append(one * 400000)
    return StreamingResponse(parts(), background=BackgroundTask(after))

async def chat(websocket):
    await websocket.accept()
    kept.append(one * int(await websocket.receive_text()))
    await websocket.close()

async def fails(request): raise KeyError("k")

routes = [
    Route("/items/{id:int}", item), Route("/items/{id:int}", item, methods=["POST"]), Route("/items/new", item),
    Route("/blocking", blocking), Route("/stream", stream), Route("/fails", fails),
    WebSocketRoute("/chat/{room}", chat),
    Mount("/api", routes=[Route("/users/{name}", item), Mount("/v2", app=Router([Route("/x/{y}", item)]))]),
    Mount("/sub", app=Starlette(routes=[Route("/{deep}", item)])),
    Mount("/static", app=StaticFiles(directory=".")),
]

def use(client):
    for path in ("/items/1", "/items/2", "/items/new", "/items/x", "/blocking", "/stream", "/api/users/ada",
                 "/api/v2/x/3", "/api/none", "/sub/d", "/static/program.py", "/none/secret"):
        client.get(path)
    client.post("/items/7"); client.put("/items/7")
    with client.websocket_connect("/chat/secret") as socket: socket.send_text("300000")
    try: client.get("/fails")
    except KeyError: print("passed")
"""
ROUTES = {
    "GET /items/{id:int}": (2, 2), "GET /items/new": (1, 1), "GET /blocking": (1, 2), "GET /stream": (1, 7),
    "GET /api/users/{name}": (1, 1), "GET /api/v2/x/{y}": (1, 1), "GET /sub/{deep}": (1, 1), "GET /static/*": (1, 0),
    "POST /items/{id:int}": (1, 1), "PUT /items/{id:int}": (1, 0), "GET /fails": (1, 0),
    "WEBSOCKET /chat/{room}": (1, 3), "GET (no route)": (3, 0),
}  # fmt: skip


@pytest.mark.parametrize(
    "made", [
        "app = Starlette(routes=routes, middleware=[Middleware(ScopeMiddleware)])",
        "app = Starlette(routes=routes); app.add_middleware(ScopeMiddleware)",
        "app = ScopeMiddleware(Starlette(routes=routes))",
        "class Other:\n    def __init__(self, app): self.app = app\n"
        "    async def __call__(self, *args): await self.app(*args)\n"
        "app = ScopeMiddleware(Other(Router(routes)))",
    ], ids=["middleware", "added", "outside", "around another"],
)  # fmt: skip
def test_starlette(program: Program, facts: Facts, tmp_path: Path, made: str) -> None:
    pytest.importorskip("starlette")
    done = program(ASGI + STARLETTE + made + "\nuse(TestClient(app))\n", says=True)
    assert done.stdout == "passed\n"
    read = by_name(facts(tmp_path / "test.bursar"))
    got = {name: (scope["calls"], scope["retained_bytes"] // UNIT) for name, scope in read.items()}
    got["GET /static/*"] = (got["GET /static/*"][0], 0)  # what the first file read of all brings about
    assert got == ROUTES


def test_what_is_remembered_of_routes_is_what_they_say(program: Program) -> None:
    """Of routes by host, of mounted ones, of more later, one in another's place, more paths than are kept."""
    pytest.importorskip("starlette")
    done = program(
        ASGI + STARLETTE + "from bursar.asgi import _Table, _template, _FOUND\nimport random\n"
        "table, rng, wrong, asked = _Table(), random.Random(1), 0, []\n"
        "class Odd(Route):\n"
        "    def matches(self, scope): return super().matches(scope if scope['odd'] else {**scope, 'path': '/never'})\n"
        "for number in range(6000):\n"
        "    if number == 1000: routes.insert(0, Odd('/{anything}', item))\n"
        "    if number == 2000: routes[0] = Route('/{everything}', item)\n"
        "    if number == 3000: routes.insert(1, Host('{sub}.example.org', Router([Route('/{at}/{host}', item)])))\n"
        "    if number == 4000: routes[:] = [Route('/items/{n:int}', item)]\n"
        "    path = rng.choice(['/items/%d' % rng.randrange(2), '/items/%d' % rng.randrange(10**9), '/items/new',\n"
        "                       '/stream', '/api/users/ada', '/sub/d', '/none/secret', '/chat/a'])\n"
        "    scope = {'type': rng.choice(['http', 'websocket']), 'method': rng.choice(['GET', 'POST', 'PUT']),\n"
        "             'path': path, 'root_path': rng.choice(['', '/items']), 'odd': rng.random() < 0.5,\n"
        "             'headers': [(b'host', rng.choice([b'a.example.org', b'b.org']))]}\n"
        "    wrong += table.template(routes, scope) != _template(routes, scope)\n"
        "    assert len(table._found) <= _FOUND\n"
        "def count(self, scope, matches=Route.matches): asked.append(self); return matches(self, scope)\n"
        "count.__module__, count.__qualname__ = Route.matches.__module__, Route.matches.__qualname__\n"
        "Route.matches = count\n"
        "scope = {'type': 'http', 'method': 'GET', 'path': '/items/5', 'root_path': ''}\n"
        "for _ in range(100): table.template(routes, scope)\n"
        "print(wrong, len(asked))\n"
    )
    assert done.stdout == "0 1\n"


WSGI = (
    ON
    + """\
from bursar.wsgi import ScopeMiddleware
kept = []

def ask(app, method, path, **more):
    said = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "",
               "SERVER_NAME": "test", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
               "wsgi.url_scheme": "http", "wsgi.version": (1, 0),
               "wsgi.input": __import__("io").BytesIO(), "wsgi.errors": sys.stderr, **more}
    def start_response(status, headers, info=None): said.append(status)
    body = app(environ, start_response)
    parts = []
    for part in body:
        parts.append(part)
        kept.append(one * 10000000)  # the server's
    if hasattr(body, "close"): body.close()
    return said, parts, type(body).__name__
"""
)


@pytest.mark.core
def test_any_wsgi_application(program: Program, facts: Facts, tmp_path: Path) -> None:
    done = program(
        WSGI + "class Body:\n"
        "    def __iter__(self):\n"
        "        for _ in range(3): kept.append(one * 100000); yield b'part'\n"
        "    def close(self): kept.append(one * 400000); print('closed')\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    if environ['PATH_INFO'] == '/fails': raise KeyError('k')\n"
        "    kept.append(one * 200000)\n"
        "    return [b'a', b'b'] if environ['PATH_INFO'] == '/list' else Body()\n"
        "by_hand = lambda environ: '/{hand}'\n"
        "said = [ask(ScopeMiddleware(app), 'GET', '/secret'), ask(ScopeMiddleware(app), 'GET', '/list'),\n"
        "        ask(ScopeMiddleware(app, route=by_hand, events=True), 'POST', '/secret')]\n"
        "try: ask(ScopeMiddleware(app, route=by_hand), 'GET', '/fails')\n"
        "except KeyError: said.append('passed')\n"
        "print(json.dumps([[s[0], [p.decode() for p in s[1]], s[2]] if s != 'passed' else s for s in said]))\n"
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == ["closed", "closed"]
    said = __import__("json").loads(lines[2])
    assert said == [
        [["200 OK"], ["part"] * 3, "_Body"], [["200 OK"], ["a", "b"], "list"], [["200 OK"], ["part"] * 3, "_Body"],
        "passed",
    ]  # fmt: skip
    read = facts(tmp_path / "test.bursar")
    got = {name: (scope["calls"], scope["retained_bytes"] // UNIT) for name, scope in by_name(read).items()}
    assert got == {"wsgi.(no route)": (2, 11), "POST /{hand}": (1, 9), "GET /{hand}": (1, 0)}
    assert [event["kind"] for event in read["events"]] == ["began", "ended"]


@pytest.mark.core
def test_a_wsgi_body_that_is_never_closed_ends_its_entry(program: Program, facts: Facts, tmp_path: Path) -> None:
    program(
        WSGI + "def app(environ, start_response):\n"
        "    yield one * 100000\n"
        "    yield one * 100000\n"
        "body = ScopeMiddleware(app)({}, None)\n"
        "kept.append(next(iter(body)))\n"
        "del body\n"
        "with bursar.scope('after') as s: kept.append(one * 500000)\n"
    )
    read = by_name(facts(tmp_path / "test.bursar"))
    assert (read["wsgi.(no route)"]["calls"], read["wsgi.(no route)"]["live_bytes"] // UNIT) == (1, 1)
    assert read["after"]["live_bytes"] // UNIT == 5


@pytest.mark.core
def test_a_wsgi_application_stays_valid(program: Program) -> None:
    """Python's own checker of the protocol, on both sides of the middleware."""
    program(
        WSGI + "from wsgiref.validate import validator\n"
        "from wsgiref.util import setup_testing_defaults\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    def parts(): yield b'a'; yield b'b'\n"
        "    return parts()\n"
        "environ = {'QUERY_STRING': ''}; setup_testing_defaults(environ)\n"
        "start = lambda status, headers, info=None: lambda data: None\n"
        "body = validator(ScopeMiddleware(validator(app)))(environ, start)\n"
        "assert b''.join(body) == b'ab'\n"
        "body.close()\n"
    )


@pytest.mark.parametrize("made", ["app.wsgi_app = ScopeMiddleware(app.wsgi_app)", "served = ScopeMiddleware(app)"])
def test_flask(program: Program, facts: Facts, tmp_path: Path, made: str) -> None:
    pytest.importorskip("flask")
    done = program(
        WSGI + "import flask\n"
        "app = served = flask.Flask('test')\n"
        "@app.route('/items/<int:id>', methods=['GET', 'POST'])\n"
        "def item(id): kept.append(one * 100000); return 'item'\n"
        "@app.route('/stream')\n"
        "def stream():\n"
        "    def parts():\n"
        "        for _ in range(3): kept.append(one * 100000); yield 'part'\n"
        "    return flask.Response(parts())\n"
        "part = flask.Blueprint('part', 'part', url_prefix='/part')\n"
        "@part.route('/<path:rest>')\n"
        "def rest(rest): kept.append(one * 200000); return 'rest'\n"
        "app.register_blueprint(part)\n" + made + "\n"
        "said = [ask(served, method, path)[0][0][:3] for method, path in [('GET', '/items/1'), ('POST', '/items/2'),\n"
        "        ('GET', '/stream'), ('GET', '/part/a/b'), ('GET', '/secret'), ('PUT', '/items/3'),\n"
        "        ('GET', '/items/x')]]\n"
        "print(json.dumps(said))\n",
        says=True,
    )
    assert printed(done) == ["200"] * 4 + ["404", "405", "404"]
    read = by_name(facts(tmp_path / "test.bursar"))
    got = {name: (scope["calls"], scope["retained_bytes"] // UNIT) for name, scope in read.items()}
    assert got.pop("wsgi.(no route)")[0] == 3
    assert {name: calls for name, (calls, _) in got.items()} == {
        "GET /items/<int:id>": 1, "POST /items/<int:id>": 1, "GET /stream": 1, "GET /part/<path:rest>": 1,
    }  # fmt: skip
    assert [got[name][1] % 10 for name in ("POST /items/<int:id>", "GET /stream", "GET /part/<path:rest>")] == [1, 3, 2]
