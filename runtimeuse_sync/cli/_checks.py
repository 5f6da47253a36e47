"""The doctor's checks of a runtime, each built on the one before: name, TCP, proxy, TLS, handshake, command, clock.

Each check says what it has found, and if that is wrong, what to do about it. Name, TCP and proxy take the steps of the
client's own code; handshake and command are a session of the client.

Threads: the main thread; the client has its own.
"""

import contextlib
import re
import socket
import ssl
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional
from urllib.parse import urlsplit

from .._call import monotonic
from .._websocket.attempt import OpeningFailed, OpeningInterrupted
from .._websocket.dialing import dial
from .._websocket.opening import split_zone
from .._websocket.proxy import Proxy, host_and_port, proxy_for, tunnel
from .._websocket.socks import check_extra, socks_tunnel
from .._wire.redaction import scrub
from .._wire.urls import is_loopback, is_secure, url_origin
from ..client import RuntimeUseClient
from ..errors import RuntimeConnectionError, RunTimeoutError, RuntimeUseError, said
from ._advice import ADVICE, CERTIFICATE_ADVICE, HANDSHAKE_ADVICE, PROXY_ADVICE
from ._certificate import Certificate, certificate_of, untrusted_certificate
from ._exits import one_line_of
from ._opener import StepOpener

#: A certificate that expires within so many days is worth a warning.
_SOON = 14

#: From how many seconds on a difference of clocks is worth a warning, and from how many on it breaks things: signed
#: requests to object storages are refused after five to fifteen minutes.
_CLOCK_WARNING = 5.0
_CLOCK_WRONG = 300.0

#: Prints the time of the sandbox's clock, with decimals where `date` knows them.
_DATE = "date +%s.%N"

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"


class Finding(NamedTuple):
    """What a check has found.

    Attributes:
        check: The name of the check.
        status: `"ok"`, `"warning"`, `"failed"` or `"skipped"`.
        text: What was found.
        advice: What to do about it; empty if nothing is to be done.
        details: What was measured, by name.
    """

    check: str
    status: str
    text: str
    advice: str = ""
    details: Optional[Dict[str, Any]] = None


class _Wrong(Exception):
    """A check has found something wrong; the rest cannot be checked."""

    def __init__(self, text: str, advice: str) -> None:
        super().__init__(text)
        self.text = text
        self.advice = advice


class Examination:
    """Examines a runtime.

    Args:
        url: Its URL, checked.
        secrets: What must not be shown.
        limit: Seconds for each check.
        client: Its client, which makes the session of the last checks.
    """

    def __init__(self, url: str, secrets: List[str], limit: float, client: RuntimeUseClient) -> None:
        parts = urlsplit(url)
        self._secure = is_secure(url)
        self._host, self._zone = split_zone(parts.hostname or "")
        self._port = parts.port or (443 if self._secure else 80)
        self._origin = url_origin(url)
        self._limit = limit
        self._client = client
        self._secrets = secrets
        self._proxy: Optional[Proxy] = None
        self._addresses: List[Any] = []
        self._sock: Optional[socket.socket] = None

    def findings(self) -> Iterator[Finding]:
        """Makes the checks one by one; after one that fails, the others are skipped."""
        checks: Dict[str, Callable[[], Finding]] = {
            "name": self._check_name,
            "tcp": self._check_tcp,
            "proxy": self._check_proxy,
            "tls": self._check_tls,
        }
        failed = False
        with contextlib.ExitStack() as stack:
            stack.callback(self._close)
            for name, check in checks.items():
                finding = Finding(name, SKIPPED, "not looked at") if failed else self._made(name, check)
                failed = failed or finding.status == FAILED
                yield finding
        if failed:
            for name in ("handshake", "command", "clock"):
                yield Finding(name, SKIPPED, "not looked at")
        else:
            yield from self._session()

    def _made(self, name: str, check: Callable[[], Finding]) -> Finding:
        try:
            finding = check()
            return finding._replace(text=self._shown(finding.text))
        except _Wrong as wrong:
            return Finding(name, FAILED, self._shown(wrong.text), wrong.advice)
        except (OpeningFailed, OpeningInterrupted) as failure:
            return Finding(name, FAILED, self._shown(str(failure)), ADVICE[name])

    def _shown(self, text: str) -> str:
        return scrub(one_line_of(text), self._secrets)

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    # The steps of a connection.

    def _check_name(self) -> Finding:
        try:
            self._proxy = proxy_for(None, self._host, self._port, self._secure)
        except OpeningFailed as failure:
            raise _Wrong(str(failure), ADVICE["proxy setting"]) from None
        proxy = self._proxy
        host, port = (self._host + self._zone, self._port) if proxy is None else (proxy.hostname, proxy.port)
        begun = monotonic()
        self._addresses = StepOpener(self._limit).look_up(host, port)
        found = list(dict.fromkeys(address[4][0] for address in self._addresses))
        if not found:
            raise _Wrong(f"the host name {host} has no address", ADVICE["name"])
        whose = "" if proxy is None else "the proxy "
        text = f"{whose}{host} is {', '.join(found)}"
        if found == [host]:
            text = f"{whose}{host} is an address: there is nothing to look up"
        return Finding("name", OK, text, details={"addresses": found, "seconds": monotonic() - begun})

    def _check_tcp(self) -> Finding:
        proxy = self._proxy
        host, port = (self._host, self._port) if proxy is None else (proxy.hostname, proxy.port)
        where = host_and_port(host, port)
        begun = monotonic()
        try:
            self._sock = dial(self._addresses, StepOpener(self._limit))
        except (OpeningFailed, OpeningInterrupted) as failure:
            silent = isinstance(failure, OpeningInterrupted)
            advice = ADVICE["silence" if silent else "refused" if "refused" in str(failure) else "tcp"]
            raise _Wrong(f"{where}: {failure}", advice if proxy is None else ADVICE["proxy gone"]) from None
        seconds = monotonic() - begun
        address = self._sock.getpeername()[0]
        text = f"{where} accepts connections ({milliseconds(seconds)})"
        return Finding("tcp", OK, text, details={"address": address, "seconds": seconds})

    def _check_proxy(self) -> Finding:
        proxy = self._proxy
        if proxy is None:
            why = "this machine needs none" if is_loopback(self._host) else "the environment names none for this host"
            return Finding("proxy", OK, f"none: {why}")
        assert self._sock is not None
        opener = StepOpener(self._limit)
        name = f"{proxy.scheme}://{host_and_port(proxy.hostname, proxy.port)}"
        begun = monotonic()
        try:
            if proxy.scheme == "http":
                tunnel(self._sock, self._host, self._port, proxy, opener, self._secrets)
            else:
                check_extra(proxy)
                socks_tunnel(self._sock, self._host, self._port, proxy, opener)
        except (OpeningFailed, OpeningInterrupted) as failure:
            status = getattr(failure, "status", None)
            advice = PROXY_ADVICE.get(status, ADVICE["proxy"])
            if "socks]" in str(failure):
                advice = "Install the extra that the text names."
            raise _Wrong(scrub(f"{name}: {failure}", proxy.secrets()), advice) from None
        seconds = monotonic() - begun
        text = f"{name} leads to {host_and_port(self._host, self._port)} ({milliseconds(seconds)})"
        return Finding("proxy", OK, text, details={"proxy": name, "seconds": seconds})

    def _check_tls(self) -> Finding:
        if not self._secure:
            if is_loopback(self._host):
                return Finding("tls", OK, "not used, and not needed on this machine")
            text = "not used: whoever is on the way can read and change everything"
            return Finding("tls", WARNING, text, "Use a wss:// or https:// URL, unless the network is your own.")
        assert self._sock is not None
        opener = StepOpener(self._limit)
        self._sock.settimeout(opener.left)
        begun = monotonic()
        try:
            # It takes the socket over, and closes it where it fails.
            secured = ssl.create_default_context().wrap_socket(self._sock, server_hostname=self._host)
        except ssl.SSLCertVerificationError as error:
            raise self._not_trusted(error) from None
        except socket.timeout:
            raise _Wrong(f"no answer within {self._limit:g} s", ADVICE["tls silence"]) from None
        except (ssl.SSLEOFError, ConnectionError):
            raise _Wrong("the server closed the connection during the TLS handshake", ADVICE["tls"]) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise _Wrong(f"TLS: {reason}", ADVICE["tls"]) from None
        self._sock = secured
        seconds = monotonic() - begun
        certificate = certificate_of(secured.getpeercert() or {})
        details: Dict[str, Any] = {"version": secured.version(), "seconds": seconds, **_fields(certificate)}
        text = f"{secured.version()}, certificate {certificate or 'without an end'} ({milliseconds(seconds)})"
        if certificate is not None and certificate.days_left < _SOON:
            return Finding("tls", WARNING, text, "Renew the certificate: it expires soon.", details)
        return Finding("tls", OK, text, details=details)

    def _not_trusted(self, error: ssl.SSLCertVerificationError) -> _Wrong:
        certificate: Optional[Certificate] = None
        with contextlib.suppress(OpeningFailed, OpeningInterrupted):
            certificate = untrusted_certificate(self._another_connection(), self._host)
        known = "" if certificate is None else f"; it is {certificate}"
        advice = CERTIFICATE_ADVICE.get(error.verify_code, ADVICE["certificate"])
        return _Wrong(f"the certificate of {self._host} is not valid: {error.verify_message}{known}", advice)

    def _another_connection(self) -> socket.socket:
        opener = StepOpener(self._limit)
        sock = dial(self._addresses, opener)
        try:
            if self._proxy is not None and self._proxy.scheme == "http":
                tunnel(sock, self._host, self._port, self._proxy, opener, self._secrets)
            elif self._proxy is not None:
                socks_tunnel(sock, self._host, self._port, self._proxy, opener)
            sock.settimeout(opener.left)
        except BaseException:
            sock.close()
            raise
        return sock

    # A session of the client.

    def _session(self) -> Iterator[Finding]:
        session = self._client.session()
        begun = monotonic()
        try:
            session.open()
        except RuntimeConnectionError as error:
            advice = HANDSHAKE_ADVICE.get(error.status, ADVICE["handshake"])
            yield Finding("handshake", FAILED, self._shown(said(error)), advice, {"status": error.status})
            yield from (Finding(name, SKIPPED, "not looked at") for name in ("command", "clock"))
            return
        with contextlib.closing(session):
            seconds = monotonic() - begun
            text = f"{self._origin} accepts WebSockets ({milliseconds(seconds)})"
            yield Finding("handshake", OK, text, details={"seconds": seconds})
            sent = time.time()
            begun = monotonic()
            try:
                results = session.execute_commands([_DATE], check=False, timeout=self._limit).results
            except RuntimeUseError as error:
                advice = ADVICE["silent runtime" if isinstance(error, RunTimeoutError) else "command"]
                yield Finding("command", FAILED, self._shown(said(error)), advice)
                yield Finding("clock", SKIPPED, "not looked at")
                return
            seconds = monotonic() - begun
            text = f"a command comes back in {milliseconds(seconds)}"
            yield Finding("command", OK, text, details={"seconds": seconds})
            yield _clock((results[0].stdout or "") if results else "", sent, seconds)


def _clock(printed: str, sent: float, seconds: float) -> Finding:
    """Returns the finding for what `date` has printed.

    Args:
        printed: What it has printed.
        sent: When the command was sent, on this machine's clock.
        seconds: How long it took.
    """
    found = re.match(r"\s*([0-9]{9,12})(\.[0-9]+)?", printed)
    if found is None:
        return Finding("clock", SKIPPED, "the sandbox has no `date` that tells its time in seconds")
    # Without decimals, it is on average half a second later.
    there = float(found.group(1)) + (float(found.group(2)) if found.group(2) else 0.5)
    difference = there - (sent + seconds / 2)
    precision = seconds / 2 + (0.0 if found.group(2) else 0.5)
    details = {"difference": round(difference, 3), "precision": round(precision, 3)}
    size = abs(difference)
    if size <= precision or size < 0.05:
        return Finding("clock", OK, "the sandbox's clock agrees with this machine's", details=details)
    text = f"the sandbox's clock is {size:.1f} s {'ahead of' if difference > 0 else 'behind'} this machine's"
    if size - precision < _CLOCK_WARNING:
        return Finding("clock", OK, text, details=details)
    advice = "Set one of the two by NTP: certificates and signed URLs depend on the time."
    return Finding("clock", FAILED if size >= _CLOCK_WRONG else WARNING, text, advice, details)


def _fields(certificate: Optional[Certificate]) -> Dict[str, Any]:
    if certificate is None:
        return {}
    return {"issuer": certificate.issuer, "days_left": int(certificate.days_left)}


def milliseconds(seconds: float) -> str:
    """Returns a short time for people."""
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
