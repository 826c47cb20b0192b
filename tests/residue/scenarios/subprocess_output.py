"""What another program printed."""

import subprocess

import bursar
import waiting

with bursar.scope("work", wipe=True):
    done = subprocess.run(["cat", str(waiting.folder / "secret.txt")], capture_output=True, text=True, check=True)
    words = done.stdout.split()
    del done, words
waiting.ready()
