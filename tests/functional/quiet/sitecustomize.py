"""Loaded by every Python process of a test run through PYTHONPATH: notes who is called over the network."""

import os
import sys


def _note(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple):
            _write(str(address[0]))
    elif event == "socket.getaddrinfo" and arguments[0]:
        host = arguments[0]
        _write(host.decode() if isinstance(host, bytes) else str(host))


def _write(host):
    descriptor = os.open(os.environ["NETWORK_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{host}\n".encode())
    os.close(descriptor)


sys.addaudithook(_note)
