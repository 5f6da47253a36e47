"""Marked secrets everywhere, DEBUG logging on, conversations of all kinds that go well or fail: no mark comes out."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import ssl
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import trustme

from runtimeuse_sync import (
    ArtifactUploadError,
    ArtifactUploadResult,
    RuntimeConnectionError,
    RuntimeEnvironmentDownloadableInterface,
    RuntimeUseClient,
    RuntimeUseError,
)
from runtimeuse_sync.runtime import LocalRuntime

from ..support.fixtures import QUICK
from ..support.marked_secrets import (
    HEADERS,
    MARK,
    PASSWORD,
    SENT,
    USER,
    Watch,
    command,
    command_options,
    mark,
    marked_client,
    query_options,
)
from ..support.servers import FaultServer, free_port
from ..support.storage import Storage
from ..support.tally import Tally, seeded, tries
from ..support.tls import server_context
from .http_proxy import HttpProxy
from .leaking_runtime import Plan, plan


class Failing(Exception):
    """A callback's own."""


def failing(*_: Any) -> Any:
    raise Failing


def _callbacks(source: random.Random, abort: Callable[[], None]) -> Dict[str, Any]:
    """Some callbacks, harmless ones and others, and some limits."""
    chosen: Dict[str, Any] = {"timeout": 10.0, "idle_timeout": 0.15}
    if source.random() < 0.5:
        chosen["timeout"], chosen["idle_timeout"] = 0.15, None
    if source.random() < 0.3:
        chosen["on_assistant_message"] = source.choice([failing, lambda _: abort()])
    if source.random() < 0.3:
        chosen["on_artifact_upload_request"] = source.choice([failing, lambda _: "no result"])
    if source.random() < 0.3:
        chosen["logger"] = logging.getLogger("of.the.user")
    if source.random() < 0.3:
        chosen["assistant_callback_timeout"] = chosen["artifact_upload_callback_timeout"] = source.choice([5.0, 1e-9])
    return chosen


def _call(caller: Any, source: random.Random, watch: Watch) -> None:
    more = _callbacks(source, caller.abort)
    way = source.randrange(4)
    watch.show(caller)
    if way == 0:
        caller.query(f"Use {mark('redact')}.", query_options(**more))
    elif way == 1:
        caller.execute_commands([command(f"login {mark('redact')}"), command()], command_options(**more))
    else:
        run = (
            caller.stream("hi", query_options(**{**more, "on_assistant_message": None}))
            if way == 2
            else caller.stream_commands([command()], command_options(**{**more, "on_assistant_message": None}))
        )
        with run:
            for number, _message in enumerate(run):
                watch.show(run)
                if number == 1 and source.random() < 0.3:
                    run.abort()
            _ = run.result


def _conversation(client: RuntimeUseClient, source: random.Random, watch: Watch) -> None:
    """A one-shot call, or a session with a few; what each raises is looked at."""
    errors = (RuntimeUseError, Failing, TypeError)
    if source.random() < 0.5:
        try:
            _call(client, source, watch)
        except errors as error:
            watch.raised(error)
        return
    try:
        with client.session(end_session_timeout=5.0) as session:
            for _ in range(source.randrange(1, 4)):
                try:
                    _call(session, source, watch)
                except errors as error:
                    watch.raised(error)
    except errors as error:
        watch.raised(error)


def test_a_runtime_that_tells_everything(tally: Tally, capfd: pytest.CaptureFixture[str]) -> None:
    fault = "secrets: any conversation, any answer with all secrets in it"
    source = seeded(fault)
    talk: Plan = plan(source)
    watch = Watch()
    looked_at = 0
    with FaultServer(lambda peer: talk(peer)) as server, watch.watching():
        client = marked_client(server.port)
        for _ in range(tries(40, 2000)):
            tally.tried(fault)
            talk = plan(source)
            _conversation(client, source, watch)
            looked_at += watch.check()
            tally.survived(fault)
        arrived = str([peer.path + str(peer.headers) for peer in server.peers]) + str(server.messages)
    # That there was something to leak, and something to look at.
    assert [secret for secret in SENT if secret not in arrived] == []
    assert looked_at > 200
    assert MARK not in "".join(capfd.readouterr())
    assert watch.check() == 0


def _real_calls(caller: Any, storage: Storage, closed: int) -> List[Callable[[], Any]]:
    """Calls of a real runtime, about half of which fail; each brings secrets that the runtime works with."""
    query = f"?X-Amz-Signature={mark('presigned')}"
    env = {"TOKEN": mark("agent-env")}
    told = [mark("redact")]

    def fetch(url: str) -> RuntimeEnvironmentDownloadableInterface:
        return RuntimeEnvironmentDownloadableInterface(f"{url}?sig={mark('download')}", "in")

    def upload_to(url: str) -> Dict[str, Any]:
        return {
            "artifacts_dir": "out",
            "on_artifact_upload_request": lambda request: ArtifactUploadResult(url + request.filename + query, "a/b"),
            "end_session_timeout": 15.0,
        }

    write = f"mkdir -p out; echo x > out/{mark('redact')}-$$"
    nowhere = f"http://127.0.0.1:{closed}/"
    return [
        lambda: caller.query("echo hello $TOKEN", agent_env=env, secrets_to_redact=told),
        lambda: caller.query("echo $TOKEN >&2; exit 3", agent_env=env, secrets_to_redact=told),
        lambda: caller.query(f"cat /nowhere/{mark('redact')}", secrets_to_redact=told),
        lambda: caller.query("echo no JSON", output_format_json_schema_str=SCHEMA, agent_env=env),
        lambda: caller.query("sleep 60", agent_env=env, secrets_to_redact=told, timeout=0.2),
        lambda: caller.query("true", pre_agent_invocation_commands=[command("echo $TOKEN; exit 4")]),
        lambda: caller.query("true", post_agent_invocation_commands=[command("echo $TOKEN >&2; exit 4")]),
        lambda: caller.query("ls in", pre_agent_downloadables=[fetch(f"{storage.url}/there")]),
        lambda: caller.query("ls in", pre_agent_downloadables=[fetch(f"{storage.url}/missing")]),
        lambda: caller.query("ls in", pre_agent_downloadables=[fetch(f"{storage.url}/bad.zip")]),
        lambda: caller.query("ls in", pre_agent_downloadables=[fetch(nowhere)]),
        lambda: caller.query("ls in", pre_agent_downloadables=[fetch(f"nothing://{mark('download')}/")]),
        lambda: caller.execute_commands([command("echo $TOKEN"), command(f"false {mark('redact')}")], check=False),
        lambda: caller.execute_commands([command(f"echo {mark('redact')}; exit 5")], secrets_to_redact=told),
        lambda: caller.execute_commands([write], secrets_to_redact=told, **upload_to(f"{storage.url}/")),
        lambda: caller.execute_commands([write], secrets_to_redact=told, **upload_to(nowhere)),
        lambda: caller.execute_commands(
            [write], secrets_to_redact=told, **upload_to(f"nothing://{mark('presigned')}/")
        ),
    ]


SCHEMA = '{"type": "json_schema", "schema": {"type": "object"}}'


@pytest.mark.timeout(600)
def test_the_embedded_runtime(tally: Tally, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In the same process, so that its own log is looked at, too, and those of the packages it stands on."""
    fault = "secrets: the embedded runtime"
    watch = Watch()
    looked_at = 0
    settings: Dict[str, Any] = {"root": str(tmp_path), "token": mark("token"), **QUICK}
    with Storage() as storage, free_port() as closed, watch.watching(), LocalRuntime("shell", **settings) as runtime:
        storage.files.update({"/there": b"x", "/bad.zip": mark("redact").encode()})
        port = int(runtime.ws_url.rsplit(":", 1)[1].strip("/"))
        client = marked_client(port, headers={"X-Api-Key": mark("key")})
        watch.show(runtime, client)

        def try_all(caller: Any) -> None:
            nonlocal looked_at
            for call in _real_calls(caller, storage, closed):
                tally.tried(fault)
                try:
                    call()
                except RuntimeUseError as error:
                    watch.raised(error)
                looked_at += watch.check()
                tally.survived(fault)

        for _ in range(tries(1, 10)):
            try_all(client)
            # Of uploads to nowhere, the session's end speaks; a one-shot's call does by itself.
            with pytest.raises(ArtifactUploadError) as lost, client.session() as session:
                try_all(session)
            watch.raised(lost.value)
        assert storage.received
        tally.tried(fault)
        with pytest.raises(RuntimeConnectionError, match="401") as caught:
            RuntimeUseClient(f"ws://127.0.0.1:{port}/?token={MARK}-wrong", headers=HEADERS).wait_until_ready(5)
        watch.raised(caught.value)
        looked_at += watch.check()
        tally.survived(fault)
    watch.check()
    assert looked_at > 100
    assert MARK not in "".join(capfd.readouterr())


def _unreachable(port: int, closed: int, proxy: HttpProxy, context: ssl.SSLContext) -> List[RuntimeUseClient]:
    """Clients that cannot connect: refused, by name, by TLS, by the proxy and behind it."""
    credentials = f"{USER}:{PASSWORD}"
    secure = f"wss://{credentials}@localhost:{port}/{mark('path')}?token={mark('token')}"
    settings: List[Dict[str, Any]] = [
        {"proxy": proxy.url(f"{USER}:{mark('wrong')}")},
        {"proxy": proxy.url(credentials)},
        {"proxy": f"http://{credentials}@127.0.0.1:{closed}"},
        {"proxy": f"http://{credentials}@{MARK.lower()}.invalid"},
        {"proxy": ""},
    ]
    plain = [marked_client(closed, connect_timeout=0.05, **each) for each in settings]
    url = f"ws://{credentials}@runtime.invalid/?token={mark('token')}"
    named = RuntimeUseClient(url, model="m", connect_timeout=0.05)
    trusting: Dict[str, Any] = {"headers": HEADERS, "connect_timeout": 5.0, "ssl_context": context, "model": "m"}
    tls = [RuntimeUseClient(secure, proxy=each, **trusting) for each in ("", proxy.url(credentials))]
    return [*plain, named, *tls]


def test_nobody_to_talk_to(tally: Tally, capfd: pytest.CaptureFixture[str]) -> None:
    fault = "secrets: refused connections, proxies, TLS"
    watch = Watch()
    context = server_context(trustme.CA().issue_cert("localhost"))
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(HttpProxy(f"{USER}:{PASSWORD}"))
        closed = stack.enter_context(free_port())
        server = stack.enter_context(FaultServer(lambda peer: None, context=context))
        stack.enter_context(watch.watching())
        for _ in range(tries(1, 20)):
            for client in _unreachable(server.port, closed, proxy, ssl.create_default_context()):
                calls: List[Callable[[], Any]] = [
                    functools.partial(client.query, "hi", query_options()),
                    functools.partial(client.execute_commands, [command()], command_options(timeout=0.1)),
                    functools.partial(client.wait_until_ready, 0.1),
                    client.session().open,
                ]
                for call in calls:
                    tally.tried(fault)
                    with pytest.raises(RuntimeUseError) as caught:
                        call()
                    watch.raised(caught.value)
                    watch.show(client)
                    assert watch.check() > 3
                    tally.survived(fault)
    assert MARK not in "".join(capfd.readouterr())
