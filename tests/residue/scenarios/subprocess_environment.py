"""A password handed to another program in its environment, and on its stdin."""

import os
import subprocess

import bursar
import waiting

with bursar.scope("work", wipe=True):
    password = (waiting.folder / "secret.txt").read_text().strip()
    subprocess.run(["true"], env=os.environ | {"PASSWORD": password}, check=True)
    subprocess.run(["cat"], input=password, text=True, stdout=subprocess.DEVNULL, check=True)
    del password
waiting.ready()
