"""TLS: the handshake on a socket, the default settings, and the sessions that later connections resume.

A full handshake takes longer than anything else in a short call, so a transport keeps one session of its last
connections and offers it to the next. Resuming must accept nothing that a full handshake would refuse, and a resumed
handshake checks no certificate. So a session is offered only

- over the same context, while its settings are as they were, and to the same host;
- until the certificate expires, and at most `LONGEST` seconds after the full handshake that it goes back to, however
  often it was resumed: so a certificate or an authority that is withdrawn is noticed;
- if the context is Python's own. Others, such as truststore's, check certificates in ways of their own.

A server need not accept the session; then the handshake is a full one. If a handshake that offered a session fails, the
session is dropped, and the next attempt makes a full one.

In TLS 1.3 the session arrives after the handshake, as a rule with the first data. So it is taken once the WebSocket is
open, or, if there is none by then, when the connection ends.

Threads: each handshake runs in the thread that owns the socket, and that thread keeps the session. Threads share a
`TlsSessions` without a lock, which a forked child could inherit held: what is kept is one immutable object, replaced in
one step. `ssl` copies a session whenever it is taken or offered, so connections, and a forked child, share no OpenSSL
state through it.
"""

import math
import os
import socket
import ssl
import threading
import time
import weakref
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from .attempt import OpeningFailed, Wait, os_failure

#: For how many seconds after a full handshake its session may be resumed.
LONGEST = 600.0

#: The default context, by what it was made from; and the locks to make it, by process.
_default: Dict[Tuple[Any, ...], ssl.SSLContext] = {}
_locks: Dict[int, threading.Lock] = {}


def default_context() -> ssl.SSLContext:
    """Returns the default settings of TLS, which trust the system's certificate authorities.

    Loading these takes longer than to connect. So it is done once for all transports, and again only if the files or
    the environment variables change that name them.

    Raises:
        OSError: a file of them cannot be read.
    """
    key = _sources()
    context = _default.get(key)
    if context is None:
        # A forked child cannot release the lock that a thread of its parent holds, so it has its own.
        with _locks.setdefault(os.getpid(), threading.Lock()):
            context = _default.get(key)
            if context is None:
                context = ssl.create_default_context()
                _default.clear()
                _default[key] = context
    return context


def _sources() -> Tuple[Any, ...]:
    paths = ssl.get_default_verify_paths()
    files = [(path, _version(path)) for path in (paths.cafile, paths.capath) if path]
    # Both functions may have been replaced: truststore, for one, does that.
    return (ssl.create_default_context, ssl.SSLContext, os.environ.get("SSLKEYLOGFILE"), *files)


def _version(path: str) -> Any:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class _Kept(NamedTuple):
    """A session that may be resumed until a time, in seconds since 1970."""

    session: ssl.SSLSession
    context: ssl.SSLContext
    settings: Tuple[Any, ...]
    host: str
    until: float


class _Begun(NamedTuple):
    """What a connection began with, and until when its session may be resumed."""

    settings: Tuple[Any, ...]
    host: str
    until: float


class TlsSessions:
    """The TLS session that the next connection of a transport resumes.

    Args:
        clock: Returns the time in seconds since 1970, by which certificates expire.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: Optional[_Kept] = None
        self._begun: weakref.WeakKeyDictionary[Any, _Begun] = weakref.WeakKeyDictionary()

    def __reduce__(self) -> Any:
        # A copy, in another process, say, has sessions of its own.
        return (TlsSessions, ())

    def offered(self, context: ssl.SSLContext, host: str, settings: Tuple[Any, ...]) -> Optional[_Kept]:
        """Returns what a connection may resume; `None` for nothing.

        Args:
            context: Its context.
            host: The host that it leads to.
            settings: The settings of the context.
        """
        kept = self._kept
        if kept is None:
            return None
        now = self._clock()
        # The first comparison: a clock that was set back must not make it last longer.
        in_time = kept.until - LONGEST <= now < kept.until
        if not in_time or kept.context is not context or kept.host != host or kept.settings != settings:
            self._kept = None
            return None
        return kept

    def forget(self) -> None:
        """Drops what is kept: a handshake failed that had been offered it."""
        self._kept = None

    def begin(self, sock: ssl.SSLSocket, host: str, settings: Tuple[Any, ...], offered: Optional[_Kept]) -> None:
        """Notes a connection whose handshake is complete.

        Args:
            sock: Its socket.
            host: The host that it leads to.
            settings: The settings of its context before the handshake.
            offered: What it was offered.
        """
        if offered is not None and sock.session_reused:
            until = offered.until
        else:
            until = min(self._clock() + LONGEST, _expires(sock))
        self._begun[sock] = _Begun(settings, host, until)

    def keep(self, sock: socket.socket) -> None:
        """Keeps the session of a connection that works, while its socket is open; does nothing if it has none yet."""
        begun = self._begun.get(sock)
        if begun is None or not isinstance(sock, ssl.SSLSocket):
            return
        session, context = sock.session, sock.context
        if session is None or begun.settings != _settings(context):
            return
        # In TLS 1.3 the handshake leaves a session that cannot be resumed; one that can be arrives later.
        if session.has_ticket or (session.id and sock.version() != "TLSv1.3"):
            self._kept = _Kept(session, context, begun.settings, begun.host, begun.until)
            self._begun.pop(sock, None)


def _is_pythons(each: Any) -> bool:
    """Returns whether a context or socket is of Python's own class, by which it checks certificates."""
    return type(each).__module__ == "ssl"


def _settings(context: ssl.SSLContext) -> Tuple[Any, ...]:
    """Returns the settings by which a handshake may be refused. More authorities refuse nothing; a revocation does."""
    # As plain numbers: the context's own properties make enumerations of them, which takes long.
    plain: Any = super(type(context), context)
    return (
        plain.verify_mode,
        plain.check_hostname,
        plain.verify_flags,
        plain.options,
        plain.minimum_version,
        plain.maximum_version,
        plain.cert_store_stats()["crl"],
    )


def _expires(sock: ssl.SSLSocket) -> float:
    """Returns when the peer's certificate expires, in seconds since 1970; infinity if it was not checked."""
    certificate: Any = sock.getpeercert()
    return ssl.cert_time_to_seconds(certificate["notAfter"]) if certificate else math.inf


def start_tls(
    sock: socket.socket, host: str, context: ssl.SSLContext, wait: Wait, sessions: Optional[TlsSessions] = None
) -> ssl.SSLSocket:
    """Makes the TLS handshake; returns the secured socket, which takes the place of `sock`.

    Args:
        sock: A connected, non-blocking socket.
        host: The host whose certificate the peer must have.
        context: The settings of TLS.
        wait: Waits for the socket.
        sessions: The session to resume; `None` (default) resumes none.

    Raises:
        OpeningFailed: the handshake failed. The socket is closed then, or still `sock`.
    """
    if sessions is None or not _is_pythons(context):
        return _handshake(sock, host, context, wait, None)
    settings = _settings(context)
    offered = sessions.offered(context, host, settings)
    try:
        secured = _handshake(sock, host, context, wait, offered)
    except BaseException as failure:
        if offered is not None:
            # It may be the session that failed: the next attempt does without.
            sessions.forget()
            if isinstance(failure, OpeningFailed):
                failure.retryable = failure.retryable or not isinstance(failure.__cause__, ssl.SSLCertVerificationError)
        raise
    if _is_pythons(secured):
        sessions.begin(secured, host, settings, offered)
    return secured


def _handshake(
    sock: socket.socket, host: str, context: ssl.SSLContext, wait: Wait, offered: Optional[_Kept]
) -> ssl.SSLSocket:
    # Contexts that are not Python's own may not know this argument.
    resumed: Any = {} if offered is None else {"session": offered.session}
    try:
        secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False, **resumed)
    except (ssl.SSLError, ValueError) as error:
        raise OpeningFailed(f"TLS: {error}") from error
    except OSError as error:
        _close_half_made(error)
        raise os_failure(error) from error
    try:
        while True:
            try:
                secured.do_handshake()
                return secured
            except ssl.SSLWantReadError:
                wait(secured, True, False)
            except ssl.SSLWantWriteError:
                wait(secured, False, True)
    except ssl.SSLCertVerificationError as error:
        secured.close()
        raise OpeningFailed(f"the certificate of {host} is not valid: {error.verify_message}") from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError) as error:
        secured.close()
        raise OpeningFailed("the connection was closed during the TLS handshake", retryable=True) from error
    except ssl.SSLError as error:
        secured.close()
        raise OpeningFailed(f"TLS: {error.reason or error}") from error
    except OSError as error:
        secured.close()
        raise os_failure(error) from error
    except BaseException:
        secured.close()
        raise


def _close_half_made(error: OSError) -> None:
    """Closes the socket that a failed `wrap_socket` had taken over, which CPython before 3.13 leaves open."""
    frame = error.__traceback__
    while frame is not None:
        made = frame.tb_frame.f_locals.get("self")
        if isinstance(made, ssl.SSLSocket):
            made.close()
        frame = frame.tb_next
