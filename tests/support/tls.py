"""Makes TLS contexts from certificates that tests issue."""

from __future__ import annotations

import ssl

import trustme


def server_context(issued: trustme.LeafCert) -> ssl.SSLContext:
    """Returns the context of a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    return context


def client_context(*trusted: trustme.CA) -> ssl.SSLContext:
    """Returns the context of a client that trusts these authorities besides the usual ones."""
    context = ssl.create_default_context()
    for each in trusted:
        each.configure_trust(context)
    return context
