"""Where a server can't listen is said before it is started."""

import os
import socket
from multiprocessing import get_context

import pytest

from flows.listen_address import AddressError, PortTakenError, refuse_taken_port, resolve_host
from flows.service_process import free_port

NO_ADDRESS_OF_OURS = "192.0.2.1"
"""Of a network that is for documentation alone."""


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])  # noqa: S104 - where we look, bound by nobody
def test_a_port_that_is_free_or_taken(host):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
        other.bind((host, 0))
        port = other.getsockname()[1]
        refused = f"port {port} of {host} is taken"
        other.listen()
        with pytest.raises(PortTakenError, match=refused) as taken:
            refuse_taken_port(host, port)
        assert taken.value.exit_code == 1
    refuse_taken_port(host, port)


def test_a_name_is_the_address_that_it_has():
    assert resolve_host("localhost").startswith("127.")
    with socket.socket() as other:
        other.bind((resolve_host("localhost"), 0))
        port = other.getsockname()[1]
        other.listen()
        with pytest.raises(PortTakenError, match=f"port {port} of localhost"):
            refuse_taken_port("localhost", port)
    refuse_taken_port("localhost", port)


def test_a_port_that_every_address_has_is_taken_for_each():
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104 - for a moment
        other.listen()
        with pytest.raises(PortTakenError):
            refuse_taken_port("127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "says"),
    [(NO_ADDRESS_OF_OURS, "is no address of this machine"), ("a..b", "no IP address"), ("", "no IP address")],
)
def test_an_address_that_is_none_of_ours(host, says):
    with pytest.raises(AddressError, match=says) as refused:
        refuse_taken_port(host, free_port())
    assert refused.value.exit_code == 2


def _unprivileged(told):
    # Root may bind everything, and some systems let everybody: then the port is simply free.
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        refuse_taken_port("127.0.0.1", 1)
        told.put("free")
    except AddressError as refused:
        told.put(refused.message)


def test_a_port_that_this_process_may_not_use():
    context = get_context("fork")
    told = context.Queue()
    process = context.Process(target=_unprivileged, args=(told,))
    process.start()
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as first:  # noqa: PTH123 - the kernel's
        expected = "this process may not listen at port 1" if int(first.read()) > 1 else "free"
    assert told.get() == expected
    process.join()
