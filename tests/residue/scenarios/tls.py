"""TLS on loopback, in this process at both ends."""

import socket
import ssl
import threading

import bursar
import waiting

server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_side.load_cert_chain(waiting.folder / "tls.pem")
client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
client_side.check_hostname = False
client_side.verify_mode = ssl.CERT_NONE


def answer(connection: socket.socket) -> None:
    with server_side.wrap_socket(connection, server_side=True) as secure:
        secure.sendall(b"hello " + secure.recv(4096))


with bursar.scope("work", wipe=True):
    here, there = socket.socketpair()
    thread = threading.Thread(target=answer, args=(there,))
    thread.start()
    with client_side.wrap_socket(here) as secure:
        secure.sendall((waiting.folder / "secret.txt").read_bytes())
        back = secure.recv(4096)
    thread.join()
    del back, thread, secure, here, there
bursar.wipe_caches()
waiting.ready()
