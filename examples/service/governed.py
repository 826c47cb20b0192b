"""The same service under bursar: each request has a budget, and what asks for more is answered with 503, alone.

    uvicorn governed:app
"""

import bursar
from app import app
from bursar.asgi import ScopeMiddleware
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Refusals:
    """Answers for what was refused; without it the server does, with 500, and logs a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except bursar.BudgetExceeded as error:
            answer = JSONResponse({"detail": f"needs more than {error.limit} bytes"}, 503)
            await answer(scope, receive, send)


bursar.start("sample", domains="all")
governor = bursar.governor()
app.add_middleware(ScopeMiddleware, hard="64 MiB")
app.add_middleware(Refusals)  # what is added later is around what was there
