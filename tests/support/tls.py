"""Makes TLS contexts from certificates that tests issue; and fixtures: an authority, and both sides that know it."""

from __future__ import annotations

import ssl
from pathlib import Path

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


def trust_by_default(authority: trustme.CA, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Has clients trust this authority alone where they are given no context; returns the file that says so."""
    file = directory / "authorities.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return file


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def for_server(authority: trustme.CA) -> ssl.SSLContext:
    return server_context(authority.issue_cert("localhost", "127.0.0.1"))


@pytest.fixture
def for_client(authority: trustme.CA) -> ssl.SSLContext:
    return client_context(authority)
