"""What to do about an error: the line with which its text ends, where there is something to do.

The advice is found by what the error says, not kept in it: so an error that was made again from its `args`, in another
process or from JSON, gives the same. `args` and `error` stay without it, for logs and programs.

Threads: pure functions; each runs in its caller's thread.
"""

import re
from typing import Any, Mapping, NamedTuple, Pattern, Sequence

#: Errors of connecting, and where the reason begins in their texts.
_CONNECTING_SAYS = re.compile(r"could not connect to |no connection to |not (be )?ready within ")
_LAST_ATTEMPT = "the last attempt: "
_COULD_NOT_CONNECT = "could not connect to "

#: How many characters of a text are looked at, at its beginning and at its end: there the client says what happened.
_LOOKED_AT = 4000

#: The client's options that limit a callback.
_CALLBACK_TIMEOUTS = ("assistant_callback_timeout", "artifact_upload_callback_timeout")


class _Rule(NamedTuple):
    """What to do about errors of one class whose text matches; no advice is needed where it is `""`."""

    kind: str
    pattern: Pattern[str]
    advice: str


def _rule(kind: str, pattern: str, advice: str) -> _Rule:
    return _Rule(kind, re.compile(pattern, re.DOTALL), advice)


#: What to do about a runtime that cannot be reached. The first rule whose pattern is found applies.
_CONNECTING = [
    _rule("", r"no thread could be started|pip install", ""),
    _rule(
        "",
        r"^(through )?the (URL of the )?proxy |^SOCKS ",
        "Check the proxy: the client's proxy, or https_proxy and its like (proxy='' uses none).",
    ),
    _rule("", r"^[^:]*: HTTP 40[13]\b", "Check the credentials: the client's headers, or the token in the URL."),
    _rule(
        "",
        r"^[^:]*: HTTP (429|50[234])\b",
        "Its server is up, but not the runtime: wait longer, by connect_timeout or client.wait_until_ready(timeout).",
    ),
    _rule(
        "", r"^[^:]*: HTTP \d\d\d\b", "Check the path and the port of the URL: what answers there is not the runtime."
    ),
    _rule(
        "",
        r"certificate",
        "Check the URL's host name, or trust the certificate's issuer by the client's ssl_context.",
    ),
    _rule(
        "", r"TLS", "Check whether the runtime speaks TLS at that port: if not, its URL begins with ws:// or http://."
    ),
    _rule("", r"cannot be resolved|no address|look-up", "Check the host name in the URL, and the network."),
    _rule(
        "",
        r"connection reset|closed during the handshake",
        "Check that the runtime is running, and the port of the URL; if TLS is spoken there, the URL begins with "
        "wss:// or https://.",
    ),
    _rule(
        "",
        r"handshake",
        "Check the port of the URL: what listens there does not answer as a runtime; handshake_timeout waits longer.",
    ),
    _rule(
        "",
        r"",
        "Check that the runtime is running and that the URL has its host and port; client.wait_until_ready() waits for "
        "one that is still starting.",
    ),
]

_NOT_READY = "Check that the runtime is being started and that the URL has its host and port, or raise the timeout."
_SAME_SESSION = "In a callback or a loop over a run, use the client or another session."
_OPEN_ANOTHER = "Open another one: with client.session() as session:"

#: What to do about all else.
_RULES = [
    _rule(
        "RunTimeoutError",
        r"[Tt]he end of the session",
        "Raise end_session_timeout, or read the files with client.files.",
    ),
    _rule(
        "RunTimeoutError",
        r"waiting for its turn",
        "Make the call on the client or on another session, or end the call in progress: session.abort().",
    ),
    _rule("RunTimeoutError", r"busy with an earlier request", "Raise timeout, or make the call on another session."),
    # Of a command that printed anything, the end of that is what is looked for: it is the end of the text.
    _rule(
        "CommandFailedError",
        r"^command failed with exit code [^\n]*\Z",
        "It printed nothing; with check=False the call returns the results instead of raising.",
    ),
    _rule("CommandFailedError", r"", ""),
    _rule(
        "ProtocolError",
        r"although the query gave a JSON schema",
        "Check that the agent's model has structured output; the text is in the error's .metadata.",
    ),
    _rule("ProtocolError", r"max_(message_size|buffered)", "Raise that setting: RuntimeUseClient(...) takes it."),
    _rule(
        "ProtocolError",
        r"^the runtime |^the peer ",
        "Check that the URL leads to a RuntimeUse runtime, and which version of it.",
    ),
    _rule(
        "ConnectionLostError",
        r"nothing was sent",
        "Make the call again; on a session, open a new one, or let it connect again by session(reconnect=True).",
    ),
    _rule(
        "ConnectionLostError",
        r"^the connection to .* was lost",
        "What had arrived is in the error's .results and .assistant_texts; make the call again if its work may be done "
        "twice.",
    ),
    _rule(
        "ArtifactUploadError",
        r"could (not )?be uploaded: |confirm the end of the session",
        "While the sandbox lives, client.files.read(path) gets such a file.",
    ),
    _rule("SessionStateError", r"in use by the same thread|is in a callback or run", _SAME_SESSION),
    _rule("SessionStateError", r"closed from inside", "Close it after the call, or use it as a context manager."),
    _rule("SessionStateError", r"session is closed|session has ended|opened only once", _OPEN_ANOTHER),
    _rule("SessionStateError", r"run can be entered only once", "Make another one: with client.stream(...) as run:"),
    _rule(
        "SessionStateError", r"another thread is reading", "Read a run in one thread; any thread may call its abort()."
    ),
]


def with_advice(text: str, kinds: Sequence[str], attributes: Mapping[str, Any]) -> str:
    """Returns the text of an error with a last line that says what to do, if there is anything.

    Args:
        text: The text.
        kinds: The names of the error's class and its base classes.
        attributes: The error's attributes.
    """
    looked_at = text if len(text) <= 2 * _LOOKED_AT else f"{text[:_LOOKED_AT]}\n{text[-_LOOKED_AT:]}"
    advice = _advice(looked_at, kinds, attributes)
    return f"{text}\n{advice}" if advice and advice not in text else text


def _advice(text: str, kinds: Sequence[str], attributes: Mapping[str, Any]) -> str:
    metadata = attributes.get("metadata")
    option = metadata.get("timeout_type") if isinstance(metadata, dict) else None
    if option == "idle_timeout":
        return "Raise idle_timeout (a runtime sends a heartbeat every 15 s), or check that the sandbox still runs."
    if option in _CALLBACK_TIMEOUTS:
        return f"Raise {option}, or have the callback do less."
    if {"RunTimeoutError", "RuntimeConnectionError"}.intersection(kinds) and _CONNECTING_SAYS.search(text):
        advice = _first(_CONNECTING, _reason(text))
        return _NOT_READY if advice == _CONNECTING[-1].advice and "ready within" in text else advice
    return _first([rule for rule in _RULES if rule.kind in kinds], text)


def _reason(text: str) -> str:
    """Returns why an attempt to connect has failed; the whole text if it does not say where that begins."""
    attempt, connect = text.rfind(_LAST_ATTEMPT), text.rfind(_COULD_NOT_CONNECT)
    if attempt > connect:
        return text[attempt + len(_LAST_ATTEMPT) :]
    place = text.find(": ", connect) if connect >= 0 else -1
    return text[place + 2 :] if place >= 0 else text


def _first(rules: Sequence[_Rule], text: str) -> str:
    return next((rule.advice for rule in rules if rule.pattern.search(text)), "")
