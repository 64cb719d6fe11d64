"""Check of a listen address before a server is started, so that a failed start changes nothing.

See docs/decisions/0035-processes-and-files.md.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from configs.errors import EXIT_USAGE, ChurnError

_RIGHT: Final = "choose a port from 1024 on, or give the process the right to this one (CAP_NET_BIND_SERVICE)"


class PortTakenError(ChurnError):
    """Another process listens at this address, or another service of the home has the port."""

    error = "port_taken"

    def __init__(self, message: str) -> None:
        super().__init__(message, "stop that one, or choose another port with --port")


class AddressError(ChurnError):
    """A server can't listen at this address."""

    error = "address_invalid"
    exit_code = EXIT_USAGE


def resolve_host(host: str) -> str:
    """Return the IP address of ``host``: itself, or the first IPv4 address of a name. Raises AddressError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return str(socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)[0][4][0])
    except (OSError, ValueError):  # UnicodeError: the name can't be encoded for a resolver
        raise AddressError(
            "the host to listen at is no IP address, and no name of one",
            "127.0.0.1 is this machine alone, 0.0.0.0 every network",
        ) from None


def refuse_taken_port(host: str, port: int) -> None:
    """Return if a server can listen at ``host`` (IP address or name) and ``port``; accepts no connection.

    Raises
    ------
    PortTakenError
        If another process listens there.
    AddressError
        If the host has no IP address or not this machine's, or this process may not bind the port.
    """
    address = resolve_host(host)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        # As servers do: connections of an ended server must not block the next one.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            # Two sockets with SO_REUSEADDR may be bound to one port, but only one of them may listen.
            probe.listen(1)
        except OSError as refused:
            if refused.errno == errno.EADDRINUSE:
                raise PortTakenError(f"port {port} of {host} is taken: another process listens there") from None
            if refused.errno in {errno.EACCES, errno.EPERM}:
                raise AddressError(f"this process may not listen at port {port}", _RIGHT) from None
            if refused.errno == errno.EADDRNOTAVAIL:
                raise AddressError(
                    f"{host} is no address of this machine", "see its addresses: ip address; 0.0.0.0 is all of them"
                ) from None
            raise AddressError(
                f"no server can listen at port {port} of {host}: {refused.strerror}", "choose another address"
            ) from None
