"""bursar keeps the books of a Python program's memory.

    bursar.start()                 open the books; bursar.stop() closes them
    with bursar.track() as t: ...  what a block allocated, freed and kept, and its peak
    with bursar.scope("load"): ... whose memory it is: by request, task, function; a decorator too
    bursar.keep_open(connection)   of what a scope would say that it was left open
    @bursar.profile                line by line, a drop-in for memory_profiler's
    bursar.SecretBytes(...)        a secret in locked memory; bursar.secret_array(...) an array of them
    bursar.verdict("predict")      does a scope leak, how much a call, where; bursar.assert_no_leak(f)
    bursar.memory_usage(...)       resident memory over time
    bursar.balance()               resident memory explained, line by line
    bursar.residue(secret)         copies of a secret in this process, and who holds them
    bursar.governor()              the collector waits while a scope is open; memory goes back in rests
    bursar.reclaim()               what can be given back, now; bursar.prefork() before workers are forked
    bursar.no_core()               no core file, no debugger
    bursar.freeze(model)           its arrays in sealed memory; bursar.thaw(), bursar.verify()
    bursar.stream(source, budget)  batches of data larger than memory; bursar.score(model, source, sink)
    bursar.save(model, path)       in a safetensors file; bursar.load(path); bursar.open(path), piece by piece
    bursar.isolated(function)      work in a process of its own; large arrays come back without a copy
    bursar.release(obj)            who else holds it, and what came back once nobody does
    bursar.unload(name)            a module that is no longer needed
    bursar.convert(path, out)      one of a pickle, joblib, npz, torch or h5 file, with no code run

Nothing is loaded before it is asked for: a program under `bursar run` imports this package at its start.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._admit import Admission as Admission
    from ._admit import NoRoom as NoRoom
    from ._admit import admit as admit
    from ._balance import Balance as Balance
    from ._balance import balance as balance
    from ._books import start as start
    from ._books import stop as stop
    from ._budget import BudgetExceeded as BudgetExceeded
    from ._convert import Converted as Converted
    from ._convert import convert as convert
    from ._describe import Refused as Refused
    from ._freeze import freeze as freeze
    from ._freeze import thaw as thaw
    from ._freeze import verify as verify
    from ._governor import Governor as Governor
    from ._governor import governor as governor
    from ._hideouts import wipe_argv as wipe_argv
    from ._hideouts import wipe_caches as wipe_caches
    from ._hideouts import wipe_environ as wipe_environ
    from ._include import get_include as get_include
    from ._isolated import IsolatedError as IsolatedError
    from ._isolated import isolated as isolated
    from ._load import load as load
    from ._model import Model as Model
    from ._model import Spec as Spec
    from ._model import open_model as open
    from ._no_core import no_core as no_core
    from ._open import LeftOpenError as LeftOpenError
    from ._open import LeftOpenWarning as LeftOpenWarning
    from ._open import keep_open as keep_open
    from ._prefork import Shared as Shared
    from ._prefork import prefork as prefork
    from ._prefork import shared as shared
    from ._profile import profile as profile
    from ._proof import ResidueError as ResidueError
    from ._reclaim import Reclaimed as Reclaimed
    from ._reclaim import reclaim as reclaim
    from ._release import release as release
    from ._residue import Residue as Residue
    from ._residue import assert_no_residue as assert_no_residue
    from ._residue import residue as residue
    from ._save import save as save
    from ._scopes import carry as carry
    from ._scopes import scope as scope
    from ._score import score as score
    from ._secret import SecretArray as SecretArray
    from ._secret import SecretBytes as SecretBytes
    from ._secret import secret_array as secret_array
    from ._stream import Stream as Stream
    from ._stream import stream as stream
    from ._track import track as track
    from ._unload import CannotUnload as CannotUnload
    from ._unload import unload as unload
    from ._usage import memory_usage as memory_usage
    from ._verdict import LeakSite as LeakSite
    from ._verdict import Undecided as Undecided
    from ._verdict import Verdict as Verdict
    from ._verdict import assert_no_leak as assert_no_leak
    from ._verdict import verdict as verdict
    from ._watch_predict import unwatch_predict as unwatch_predict
    from ._watch_predict import watch_predict as watch_predict

__version__ = "0.1.0"
__all__ = [
    "Admission",
    "Balance",
    "BudgetExceeded",
    "CannotUnload",
    "Converted",
    "Governor",
    "IsolatedError",
    "LeakSite",
    "LeftOpenError",
    "LeftOpenWarning",
    "Model",
    "NoRoom",
    "Reclaimed",
    "Refused",
    "Residue",
    "ResidueError",
    "SecretArray",
    "SecretBytes",
    "Shared",
    "Spec",
    "Stream",
    "Undecided",
    "Verdict",
    "__version__",
    "admit",
    "assert_no_leak",
    "assert_no_residue",
    "balance",
    "carry",
    "convert",
    "freeze",
    "get_include",
    "governor",
    "isolated",
    "keep_open",
    "load",
    "memory_usage",
    "no_core",
    "open",
    "prefork",
    "profile",
    "reclaim",
    "release",
    "residue",
    "save",
    "scope",
    "score",
    "secret_array",
    "shared",
    "start",
    "stop",
    "stream",
    "thaw",
    "track",
    "unload",
    "unwatch_predict",
    "verdict",
    "verify",
    "watch_predict",
    "wipe_argv",
    "wipe_caches",
    "wipe_environ",
]

_HOME = {
    "Admission": "_admit",
    "Balance": "_balance",
    "CannotUnload": "_unload",
    "Converted": "_convert",
    "Governor": "_governor",
    "LeakSite": "_verdict",
    "LeftOpenError": "_open",
    "LeftOpenWarning": "_open",
    "IsolatedError": "_isolated",
    "Model": "_model",
    "NoRoom": "_admit",
    "Reclaimed": "_reclaim",
    "Refused": "_describe",
    "Residue": "_residue",
    "BudgetExceeded": "_budget",
    "ResidueError": "_proof",
    "SecretArray": "_secret",
    "SecretBytes": "_secret",
    "Shared": "_prefork",
    "Spec": "_model",
    "Stream": "_stream",
    "Undecided": "_verdict",
    "Verdict": "_verdict",
    "admit": "_admit",
    "assert_no_leak": "_verdict",
    "assert_no_residue": "_residue",
    "balance": "_balance",
    "carry": "_scopes",
    "convert": "_convert",
    "freeze": "_freeze",
    "get_include": "_include",
    "governor": "_governor",
    "keep_open": "_open",
    "isolated": "_isolated",
    "load": "_load",
    "memory_usage": "_usage",
    "no_core": "_no_core",
    "open": "_model",
    "prefork": "_prefork",
    "profile": "_profile",
    "reclaim": "_reclaim",
    "release": "_release",
    "residue": "_residue",
    "save": "_save",
    "scope": "_scopes",
    "score": "_score",
    "secret_array": "_secret",
    "shared": "_prefork",
    "start": "_books",
    "stop": "_books",
    "stream": "_stream",
    "thaw": "_freeze",
    "track": "_track",
    "unload": "_unload",
    "unwatch_predict": "_watch_predict",
    "verdict": "_verdict",
    "verify": "_freeze",
    "watch_predict": "_watch_predict",
    "wipe_argv": "_hideouts",
    "wipe_caches": "_hideouts",
    "wipe_environ": "_hideouts",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module("." + home, __name__), "open_model" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
