"""Whether a server can listen where it is told to, asked before it is started: a start that fails changes nothing."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Final

from configs.errors import EXIT_USAGE, ChurnError

_RIGHT: Final = "choose a port from 1024 on, or give the process the right to this one (CAP_NET_BIND_SERVICE)"


class PortTakenError(ChurnError):
    """Another process listens at this address."""

    error = "port_taken"

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"port {port} of {host} is taken: another process listens there",
            "stop that one, or choose another port with --port",
        )


class AddressError(ChurnError):
    """No server of ours can listen at this address."""

    error = "address_invalid"
    exit_code = EXIT_USAGE


def refuse_taken(host: str, port: int) -> None:
    """Return if a server can listen at ``host`` (an IP address) and ``port``; nobody is listened to meanwhile.

    Raises
    ------
    PortTakenError
        If another one does.
    AddressError
        If the host is no IP address or not this machine's, or this process may not use the port.
    """
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004
    except ValueError:
        raise AddressError(
            "the host to listen at is no IP address", "127.0.0.1 is this machine alone, 0.0.0.0 every network"
        ) from None
    with socket.socket(family) as probe:
        # As servers do: connections of one that has ended must not hold up the next.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as refused:
            if refused.errno == errno.EADDRINUSE:
                raise PortTakenError(host, port) from None
            if refused.errno in {errno.EACCES, errno.EPERM}:
                raise AddressError(f"this process may not listen at port {port}", _RIGHT) from None
            if refused.errno == errno.EADDRNOTAVAIL:
                raise AddressError(
                    f"{host} is no address of this machine", "see its addresses: ip address; 0.0.0.0 is all of them"
                ) from None
            raise AddressError(
                f"no server can listen at port {port} of {host}: {refused.strerror}", "choose another address"
            ) from None
