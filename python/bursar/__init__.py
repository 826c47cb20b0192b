"""bursar keeps the books of a Python program's memory.

    bursar.start()                 open the books; bursar.stop() closes them
    with bursar.track() as t: ...  what a block allocated, freed and kept, and its peak
    with bursar.scope("load"): ... whose memory it is: by request, task, function; a decorator too
    @bursar.profile                line by line, a drop-in for memory_profiler's
    bursar.memory_usage(...)       resident memory over time
    bursar.balance()               resident memory explained, line by line

Nothing is loaded before it is asked for: a program under `bursar run` imports this package at its start.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._balance import Balance as Balance
    from ._balance import balance as balance
    from ._books import start as start
    from ._books import stop as stop
    from ._include import get_include as get_include
    from ._profile import profile as profile
    from ._scopes import carry as carry
    from ._scopes import scope as scope
    from ._track import track as track
    from ._usage import memory_usage as memory_usage
    from ._watch_predict import unwatch_predict as unwatch_predict
    from ._watch_predict import watch_predict as watch_predict

__version__ = "0.1.0"
__all__ = [
    "Balance",
    "__version__",
    "balance",
    "carry",
    "get_include",
    "memory_usage",
    "profile",
    "scope",
    "start",
    "stop",
    "track",
    "unwatch_predict",
    "watch_predict",
]

_HOME = {
    "Balance": "_balance",
    "balance": "_balance",
    "carry": "_scopes",
    "get_include": "_include",
    "memory_usage": "_usage",
    "profile": "_profile",
    "scope": "_scopes",
    "start": "_books",
    "stop": "_books",
    "track": "_track",
    "unwatch_predict": "_watch_predict",
    "watch_predict": "_watch_predict",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module("." + home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
