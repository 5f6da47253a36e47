"""`no_proxy`: what curl, requests and Go make of it."""

from __future__ import annotations

import pytest

from runtimeuse_sync._websocket.proxy import bypassed

WITHOUT_PROXY = [
    ("*", "example.com"),
    ("other.test, *", "10.0.0.1"),
    # Names, and all below them; a leading dot makes no difference.
    ("example.com", "example.com"),
    ("example.com", "a.b.example.com"),
    (".example.com", "a.example.com"),
    (".example.com", "example.com"),
    ("*.example.com", "a.example.com"),
    ("EXAMPLE.com", "example.COM"),
    ("example.com.", "example.com"),
    ("example.com", "example.com."),
    ("com", "example.com"),
    # Separated by commas, blanks, or both.
    ("a.test,example.com", "example.com"),
    ("a.test example.com", "example.com"),
    (" a.test ,\t example.com , ", "example.com"),
    (",,example.com,,", "example.com"),
    # Ports.
    ("example.com:8080", "example.com"),
    ("example.com:8080", "a.example.com"),
    ("10.0.0.1:8080", "10.0.0.1"),
    ("[::1]:8080", "::1"),
    ("[fd00::7]", "fd00::7"),
    # Addresses, however they are written.
    ("10.0.0.1", "10.0.0.1"),
    ("::1", "::1"),
    ("0:0:0:0:0:0:0:1", "::1"),
    ("fd00::7", "FD00:0::7"),
    ("fe80::1", "fe80::1%eth0"),
    ("10.0.0.1", "::ffff:10.0.0.1"),
    # Networks.
    ("10.0.0.0/8", "10.255.0.1"),
    ("10.1.2.3/8", "10.255.0.1"),
    ("192.168.1.0/24", "192.168.1.255"),
    ("10.0.0.1/32", "10.0.0.1"),
    ("fd00::/8", "fdff::1"),
    ("[fd00::]/8", "fdff::1"),
    ("a.test,10.0.0.0/8", "10.1.1.1"),
    ("0.0.0.0/0", "8.8.8.8"),
]

THROUGH_PROXY = [
    ("", "example.com"),
    (" , ", "example.com"),
    ("example.com", "notexample.com"),
    ("example.com", "example.com.evil.test"),
    ("a.example.com", "example.com"),
    (".", "example.com"),
    ("*.", "example.com"),
    ("*x", "x"),
    ("example.com:1", "example.com"),
    ("[::1]:1", "::1"),
    ("10.0.0.1:1", "10.0.0.1"),
    ("10.0.0.1", "10.0.0.10"),
    ("0.0.1", "10.0.0.1"),
    ("10.0.0.0/8", "11.0.0.1"),
    ("10.0.0.0/8", "10.example.com"),
    ("10.0.0.0/33", "10.0.0.1"),
    ("10.0.0.0/", "10.0.0.1"),
    ("/8", "10.0.0.1"),
    ("/", "10.0.0.1"),
    ("fd00::/8", "fe00::1"),
    ("fd00::/8", "10.0.0.1"),
    ("::/0", "10.0.0.1"),
    ("[::1", "::1x"),
    (":8080", "example.com"),
    ("[]", "example.com"),
]


@pytest.mark.parametrize(("no_proxy", "host"), WITHOUT_PROXY)
def test_reached_without_the_proxy(no_proxy: str, host: str) -> None:
    assert bypassed(no_proxy, host, 8080)


@pytest.mark.parametrize(("no_proxy", "host"), THROUGH_PROXY)
def test_reached_through_the_proxy(no_proxy: str, host: str) -> None:
    assert not bypassed(no_proxy, host, 8080)
