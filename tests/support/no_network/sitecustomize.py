"""No network: imported by the tests, and by every Python that they start (it is on PYTHONPATH).

Python calls its audit hooks before every connection is made. This one refuses it, and
leaves a line in the file $STAF_TEST_SOCKETS, so that no `except` can hide the attempt. Tests
marked `loopback` may reach this machine, but no other. What C libraries do behind Python's
back is seen by strace only: test_offline.py.
"""

import ipaddress
import os
import sys

ATTEMPTS = "STAF_TEST_SOCKETS"
LOOPBACK = "STAF_TEST_LOOPBACK"
ADDRESS_AT = {  # which argument of an event is the address
    "socket.bind": 1,
    "socket.connect": 1,
    "socket.sendmsg": 1,
    "socket.sendto": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
}


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: raises OSError for whatever would leave this process."""
    if event not in ADDRESS_AT:
        return
    address = arguments[ADDRESS_AT[event]]
    if os.environ.get(LOOPBACK) and _is_here(address):
        return
    line = f"{os.environ.get('PYTEST_CURRENT_TEST', sys.argv)}: {event} {address!r}\n"
    descriptor = os.open(os.environ[ATTEMPTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode(errors="backslashreplace"))
    os.close(descriptor)
    raise OSError(f"tests have no network: {event} {address!r}")


def _is_here(address: object) -> bool:
    """Whether an address, as sockets are given it, is on this machine."""
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(address, tuple) and host in ("localhost", "0.0.0.0", "::", ""):
        return True
    if host is None or (isinstance(host, str) and host.startswith("/")):  # a Unix socket
        return True
    if isinstance(host, bytes):
        return not isinstance(address, tuple)  # a Unix socket without a name in the file system
    try:
        return host == "localhost" or ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


if os.environ.get(ATTEMPTS):
    sys.addaudithook(refuse)
