"""Tells what the network of this machine can do."""

from __future__ import annotations

import functools
import socket


@functools.lru_cache(maxsize=None)
def has_ipv6() -> bool:
    """Returns whether one can listen on IPv6's loopback address, which containers often lack."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as listener:
            listener.bind(("::1", 0))
    except OSError:
        return False
    return True
