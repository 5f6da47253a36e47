"""`runtimeuse-sync doctor`: each check finds what is wrong, says it in words, and says what to do."""

from __future__ import annotations

import datetime
import json
import re
import select
import socket
import ssl
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import trustme

from runtimeuse_sync.cli._certificate import Certificate, certificate_of
from runtimeuse_sync.cli._checks import _clock
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Serve, answer_all, end, error, ran
from ..support.resolver import addresses
from ..support.servers import Peer, black_hole, free_port
from ..support.tls import authority, server_context, trust_by_default
from .conftest import Command, Outcome

__all__ = ["authority"]

CHECKS = ["name", "tcp", "proxy", "tls", "handshake", "command", "clock"]


def findings(outcome: Outcome) -> Dict[str, Dict[str, Any]]:
    """Returns what `--json` says of each check."""
    *lines, last = [json.loads(line) for line in outcome.out.splitlines()]
    assert last == {"message_type": "result", "exit_code": outcome.code}
    assert [line["check"] for line in lines] == CHECKS
    return {line["check"]: line for line in lines}


def failed(outcome: Outcome, check: str) -> Tuple[str, str]:
    """Asserts that one check has failed and those after it were skipped; returns what it says, and its advice."""
    found = findings(outcome)
    at = CHECKS.index(check)
    statuses = [found[name]["status"] for name in CHECKS]
    assert all(status in ("ok", "warning") for status in statuses[:at]), found
    assert statuses[at:] == ["failed"] + ["skipped"] * (len(CHECKS) - at - 1), found
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert found[check]["text"] in outcome.err
    return found[check]["text"], found[check]["advice"]


def date(peer: Peer, printed: str, **more: Any) -> None:
    """Answers the doctor's command."""
    command = peer.expect("command_execution_message")["commands"][0]["command"]
    peer.send(ran(command, stdout=printed, **more))


# --- All is well.


def test_all_is_well(command: Command, runtime: LocalRuntime) -> None:
    code, out, err = command("doctor", runtime.ws_url)
    assert (code, err) == (0, "")
    lines = [re.split(r"\s{2,}", line, maxsplit=2)[:2] for line in out.splitlines()]
    assert lines == [[name, "ok"] for name in ("name", "TCP", "proxy", "TLS", "handshake", "command", "clock")]


@pytest.mark.parametrize("how", ["argument", "option", "environment"])
def test_the_url(command: Command, runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "environment":
        monkeypatch.setenv("RUNTIMEUSE_WS_URL", runtime.ws_url)
    arguments = {"argument": [runtime.ws_url], "option": ["--url", runtime.ws_url], "environment": []}[how]
    found = findings(command("doctor", "--json", *arguments))
    assert {found[name]["status"] for name in CHECKS} == {"ok"}
    assert found["tcp"]["details"]["address"] == "127.0.0.1"
    assert abs(found["clock"]["details"]["difference"]) < 5


def test_urls_of_providers(command: Command, runtime: LocalRuntime) -> None:
    url = runtime.ws_url.replace("ws://", "http://")
    found = findings(command("doctor", "--json", url))
    assert {found[name]["status"] for name in CHECKS} == {"ok"}
    assert found["handshake"]["text"].startswith(f"{url} accepts WebSockets")


def test_the_token_in_the_host_of_a_signed_url_is_masked(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "a1b2c3d4e5f6g7h8"
    with free_port() as port:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses(port))
        outcome = command("doctor", "--json", f"https://8080-{token}.proxy.test:{port}")
    found = findings(outcome)
    assert found["name"]["text"] == "8080-[REDACTED].proxy.test is 127.0.0.1"
    assert found["tcp"]["status"] == "failed"
    assert token not in outcome.out + outcome.err


def test_the_embedded_runtime(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("doctor", "--local").code == 0


# --- What is wrong on the way.


def test_a_name_that_nobody_knows(command: Command) -> None:
    text, advice = failed(command("doctor", "--json", "ws://runtime.invalid"), "name")
    assert "runtime.invalid cannot be resolved" in text
    assert "spelling" in advice


def test_a_port_where_nothing_listens(command: Command) -> None:
    with free_port() as port:
        text, advice = failed(command("doctor", "--json", f"ws://127.0.0.1:{port}"), "tcp")
    assert text == f"127.0.0.1:{port}: connection refused"
    assert "Nothing listens there" in advice


def test_packets_that_are_dropped(command: Command) -> None:
    with black_hole() as port:
        text, advice = failed(command("doctor", "--json", "--timeout", "0.3", f"ws://127.0.0.1:{port}"), "tcp")
    assert "no answer within 0.3 s" in text
    assert "firewall" in advice


@pytest.mark.parametrize(
    ("status", "advised"),
    [
        ("400 Bad Request", "path of the URL"),
        ("401 Unauthorized", "--header 'Authorization: Bearer TOKEN'"),
        ("403 Forbidden", "refuses these credentials"),
        ("404 Not Found", "no runtime at this path"),
        ("418 I'm a teapot", "Something else than an agent runtime"),
        ("500 Internal Server Error", "look at its log"),
    ],
)
def test_a_handshake_that_is_refused(command: Command, serve: Serve, status: str, advised: str) -> None:
    server = serve(lambda peer: peer.refuse(status) if peer.number else None)
    url = f"{server.url}/?token=s3cret-token"
    outcome = command("doctor", "--json", "--header", "Authorization: Bearer s3cret-header", url)
    text, advice = failed(outcome, "handshake")
    assert status.split(maxsplit=1)[0] in text
    assert advised in advice
    assert "s3cret" not in outcome.out + outcome.err


def test_a_runtime_that_is_not_up_behind_its_proxy(command: Command, serve: Serve) -> None:
    server = serve(lambda peer: peer.refuse("503 Service Unavailable") if peer.number else None)
    text, advice = failed(command("doctor", "--json", "--timeout", "1", server.url), "handshake")
    assert "503" in text
    assert "wait until it is up" in advice


def test_a_runtime_that_does_not_answer(command: Command, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        if peer.number:
            peer.accept()
            peer.expect("command_execution_message")

    text, advice = failed(command("doctor", "--json", "--timeout", "1", serve(script).url), "command")
    assert "did not end within 1 s" in text
    assert "frozen" in advice


def test_a_runtime_that_runs_no_commands(command: Command, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        if peer.number:
            peer.accept()
            peer.expect("command_execution_message")
            peer.send(error("no shell"))
            answer_all(peer)

    text, advice = failed(command("doctor", "--json", serve(script).url), "command")
    assert text == "no shell"
    assert "log" in advice


def test_a_clock_that_is_wrong(command: Command, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        if peer.number:
            peer.accept()
            date(peer, f"{time.time() + 4000:.3f}\n")
            end(peer)

    text, advice = failed(command("doctor", "--json", serve(script).url), "clock")
    assert re.match(r"the sandbox's clock is (39|40)\d\d\.\d s ahead of this machine's", text)
    assert "NTP" in advice


@pytest.mark.parametrize(
    ("printed", "status", "text"),
    [
        ("1000.5\n", "skipped", "no `date`"),
        ("", "skipped", "no `date`"),
        ("1700000000.04\n", "ok", "agrees"),
        ("1700000000.N\n", "ok", "agrees"),
        ("1700000000\n", "ok", "agrees"),
        ("1700000003.5\n", "ok", "3.5 s ahead of"),
        ("1699999990.0\n", "warning", "10.0 s behind"),
        ("1699999000.0\n", "failed", "1000.0 s behind"),
    ],
)
def test_what_the_clock_says(printed: str, status: str, text: str) -> None:
    finding = _clock(printed, sent=1_699_999_999.95, seconds=0.1)
    assert finding.status == status
    assert text in finding.text


# --- TLS.


def answering(peer: Peer) -> None:
    if peer.number:
        peer.accept()
        date(peer, f"{time.time():.3f}\n")
        end(peer)


@pytest.mark.parametrize(("days", "status"), [(100, "ok"), (5, "warning")])
def test_a_certificate(
    command: Command,
    serve: Serve,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    status: str,
) -> None:
    trust_by_default(authority, tmp_path, monkeypatch)
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days, hours=12)
    issued = authority.issue_cert("localhost", not_after=until)
    outcome = command("doctor", "--json", serve(answering, context=server_context(issued)).url)
    found = findings(outcome)
    assert outcome.code == 0
    assert (found["tls"]["status"], found["tls"]["details"]["days_left"]) == (status, days)
    assert "trustme" in found["tls"]["details"]["issuer"]
    assert f"{days} days left" in found["tls"]["text"]
    assert bool(found["tls"]["advice"]) is (status == "warning")


@pytest.mark.parametrize(
    ("what", "said", "advised"),
    [
        ("unknown", "issued by trustme", "SSL_CERT_FILE"),
        ("expired", "expired 3 days ago", "renew it"),
        ("other host", "other.example", "correct the host in the URL"),
    ],
)
def test_a_certificate_that_is_not_valid(
    command: Command,
    serve: Serve,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    said: str,
    advised: str,
) -> None:
    if what != "unknown":
        trust_by_default(authority, tmp_path, monkeypatch)
    name = "other.example" if what == "other host" else "localhost"
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=3, hours=12)
    issued = authority.issue_cert(name, not_after=past) if what == "expired" else authority.issue_cert(name)
    server = serve(lambda peer: None, context=server_context(issued))
    text, advice = failed(command("doctor", "--json", server.url), "tls")
    assert text.startswith("the certificate of localhost is not valid: ")
    if what != "other host":
        assert said in text
    assert advised in advice


def test_a_server_without_tls(command: Command, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        # All of it: closed with something unread, a connection is reset.
        peer._some()
        peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.cut()

    url = serve(script).url.replace("ws://", "wss://")
    _, advice = failed(command("doctor", "--json", url), "tls")
    assert "ws:// or http:// URL" in advice


def test_the_fields_of_a_certificate() -> None:
    assert certificate_of({}) is None
    fields = {"notAfter": "Jan  1 00:00:00 2100 GMT", "issuer": ((("commonName", "Root"),),)}
    found = certificate_of(fields)
    assert found is not None
    assert found.issuer == "Root"
    assert str(Certificate("A", 1.5)) == "issued by A, 1 day left"
    assert str(Certificate("A", -2.5)) == "issued by A, expired 2 days ago"


# --- Proxies. The host is one that only the proxy knows.


class Proxy:
    """A proxy that leads everywhere to one server."""

    def __init__(self, serve: Serve, port: int = 0, status: str = "200 OK") -> None:
        self.requests: List[str] = []
        self._port, self._status = port, status
        self.url = serve(self._tunnel).url.replace("ws://", "http://user:s3cret-password@")

    def _tunnel(self, peer: Peer) -> None:
        self.requests.append(peer.read_request())
        peer.raw(f"HTTP/1.1 {self._status}\r\n\r\n".encode())
        if not self._status.startswith("200"):
            return
        with socket.create_connection(("127.0.0.1", self._port)) as upstream:
            ends = {peer.sock: upstream, upstream: peer.sock}
            while True:
                for each in select.select(list(ends), [], [], 15)[0]:
                    data = each.recv(65536)
                    if not data:
                        peer.sock.close()
                        return
                    ends[each].sendall(data)


def test_a_proxy(command: Command, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy(serve, serve(answering).port)
    monkeypatch.setenv("http_proxy", proxy.url)
    outcome = command("doctor", "--json", "ws://runtime.example:8080")
    found = findings(outcome)
    assert outcome.code == 0
    assert "leads to runtime.example:8080" in found["proxy"]["text"]
    # Unencrypted, to another machine.
    assert found["tls"]["status"] == "warning"
    assert proxy.requests == ["CONNECT runtime.example:8080 HTTP/1.1"] * 2
    assert "s3cret" not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("status", "advised"),
    [
        ("403 Forbidden", "does not allow"),
        ("407 Proxy Authentication Required", "wants a user and a password"),
        ("502 Bad Gateway", "cannot reach the host"),
        ("599 Odd", "Ask who runs the proxy"),
    ],
)
def test_a_proxy_that_refuses(
    command: Command, serve: Serve, monkeypatch: pytest.MonkeyPatch, status: str, advised: str
) -> None:
    monkeypatch.setenv("https_proxy", Proxy(serve, status=status).url)
    outcome = command("doctor", "--json", "wss://runtime.example")
    text, advice = failed(outcome, "proxy")
    assert status in text
    assert advised in advice
    assert "s3cret" not in outcome.out + outcome.err


def test_a_proxy_that_is_not_there(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with free_port() as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        text, advice = failed(command("doctor", "--json", "ws://runtime.example"), "tcp")
    assert "connection refused" in text
    assert "The proxy cannot be reached" in advice


def test_a_proxy_setting_that_is_invalid(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "ftp://proxy")
    _, advice = failed(command("doctor", "--json", "ws://runtime.example"), "name")
    assert "http_proxy" in advice


def test_a_certificate_of_the_system_is_read() -> None:
    """The private function of CPython that reads a certificate that is not trusted is there."""
    assert callable(getattr(getattr(ssl, "_ssl"), "_test_decode_cert"))  # noqa: B009  # it is in no stub
