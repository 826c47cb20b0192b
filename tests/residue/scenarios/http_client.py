"""An answer from a server."""

import http.client
import http.server
import os

import bursar
import waiting

listener = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
child = os.fork()
if child == 0:
    os.chdir(waiting.folder)
    http.server.SimpleHTTPRequestHandler.log_message = lambda *_: None  # type: ignore[method-assign]
    listener.handle_request()
    os._exit(0)
with bursar.scope("work", wipe=True):
    connection = http.client.HTTPConnection(*listener.server_address[:2])
    connection.request("GET", "/secret.json")
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    del connection, response, text
os.waitpid(child, 0)
bursar.wipe_caches()
waiting.ready()
