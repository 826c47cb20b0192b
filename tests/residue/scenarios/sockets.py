"""A socket, through makefile and recv."""

import os
import socket

import bursar
import waiting

here, there = socket.socketpair()
if os.fork() == 0:
    there.sendall((waiting.folder / "secret.txt").read_bytes() * 2)
    os._exit(0)
there.close()
os.wait()
with bursar.scope("work", wipe=True):
    first = here.recv(33)
    with here.makefile("r") as file:
        second = file.readline()
    same = first.decode() == second
    del first, second
bursar.wipe_caches()
waiting.ready()
