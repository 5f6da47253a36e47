"""Makes TLS contexts from certificates that tests issue; and fixtures: an authority, and both sides that know it."""

from __future__ import annotations

import ssl

import pytest
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


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def for_server(authority: trustme.CA) -> ssl.SSLContext:
    return server_context(authority.issue_cert("localhost", "127.0.0.1"))


@pytest.fixture
def for_client(authority: trustme.CA) -> ssl.SSLContext:
    return client_context(authority)
