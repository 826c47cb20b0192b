"""With what a model was made: the record that a saved file has, unless it was asked to have none."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Iterable
from typing import Any

MADE, VERSIONS, LEFT_OUT = "bursar.made", "bursar.versions", "bursar.left_out"


def record(arrays: Iterable[Any], description: str) -> dict[str, str]:
    """When and with which versions: metadata. SOURCE_DATE_EPOCH sets the time, for files that are the same each time.

    arrays: of the model; description: "" where there is none. Of the libraries whose classes these are."""
    from . import __version__

    found = {type(array).__module__.partition(".")[0] for array in arrays}
    found.update(re.findall(r'"(?:of|name)":"([A-Za-z_]\w*)\.', description))
    if '"$":"frame"' in description or '"$":"series"' in description:
        found.add("pandas")
    told = [f"bursar {__version__}", f"Python {platform.python_version()}"]
    for name in sorted(found):
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            told.append(f"{name} {version}")
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(given) if given.isdigit() else int(time.time())
    return {MADE: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)), VERSIONS: ", ".join(told)}
