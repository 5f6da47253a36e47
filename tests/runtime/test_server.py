from __future__ import annotations

import http.client
import logging
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Tuple
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.artifacts import UploadDirectory
from runtimeuse_sync.runtime import Invocation, LocalRuntime, Sender
from tests.support.network import has_ipv6

from ..support.processes import CHILD_LIMIT, wait_until_ended
from ..support.servers import PATIENCE
from .conftest import StartRuntime
from .wire import CANCELLED, assert_closed, wire_to


def refused_with(runtime: LocalRuntime, query: str = "", *headers: Tuple[str, str]) -> int:
    """Returns the status that a handshake is answered with; the headers are sent besides the necessary ones."""
    url = urlsplit(runtime.ws_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE)
    try:
        connection.putrequest("GET", "/" + query)
        handshake = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", "MDEyMzQ1Njc4OWFiY2RlZg=="),
            ("Sec-WebSocket-Version", "13"),
        ]
        for name, value in [*handshake, *headers]:
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def test_it_listens_only_on_loopback_by_default(start: StartRuntime) -> None:
    runtime = start("echo")
    assert runtime.ws_url.startswith("ws://127.0.0.1:")
    assert repr(runtime) == f"<LocalRuntime {runtime.ws_url}>"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.com"])
def test_other_hosts_need_a_token(host: str) -> None:
    with pytest.raises(ValueError, match="token"):
        LocalRuntime(host=host)
    LocalRuntime(host=host, token="t")
    LocalRuntime(host=host, no_auth=True)


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")])
def test_a_url_that_can_be_connected_to(start: StartRuntime, tmp_path: Path, host: str, shown: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    runtime = start(host=host, no_auth=True)
    assert runtime.ws_url.startswith(f"ws://{shown}:")
    with wire_to(runtime) as wire:
        assert wire.query("echo x")[-1]["data"]["text"] == "x\n"
    with UploadDirectory(tmp_path / "received", host=host) as uploads:
        RuntimeUseClient(runtime.ws_url, model="m").execute_commands(
            ["echo x > out/file"], artifacts_dirs=["out"], on_artifact_upload_request=uploads.callback
        )
    [received] = (path for path in (tmp_path / "received").rglob("*") if path.is_file())
    assert (received.name, received.read_text()) == ("file", "x\n")


def test_a_page_in_a_browser_is_refused(start: StartRuntime) -> None:
    runtime = start("echo", allow_origins=["http://good.example"])
    assert refused_with(runtime, "", ("Origin", "http://evil.example")) == 403
    assert refused_with(start("echo"), "", ("Origin", "http://127.0.0.1")) == 403
    with wire_to(runtime, origin="http://good.example") as wire:
        wire.assert_idle()
    with wire_to(start("echo", allow_origins="*"), origin="http://any.example") as wire:
        wire.assert_idle()


def test_a_token_is_asked_for(start: StartRuntime, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        runtime = start("echo", token="s3cret-token")
        assert "s3cret" not in runtime.ws_url
        assert refused_with(runtime) == 401
        assert refused_with(runtime, "?token=wrong") == 401
        assert refused_with(runtime, "?token=%ff") == 401
        # For comparison: it is the token alone that it lacks.
        assert refused_with(runtime, "?token=s3cret-token") == 101
        assert refused_with(runtime, "", ("Authorization", "Bearer wrong")) == 401
        assert refused_with(runtime, "", ("Authorization", "s3cret-token")) == 401
        twice = [("Authorization", "Bearer wrong"), ("Authorization", "Basic s3cret-token")]
        assert refused_with(runtime, "", *twice) == 401
        with wire_to(runtime, additional_headers={"Authorization": "Bearer s3cret-token"}) as wire:
            wire.assert_idle()
        with connect(runtime.ws_url + "?token=s3cret-token") as connection:
            connection.send('{"message_type": "command_execution_message", "commands": []}')
            assert "results" in str(connection.recv(PATIENCE))
    own = [record.getMessage() for record in caplog.records if record.name.startswith("runtimeuse")]
    assert own
    assert "s3cret" not in str(own)


@pytest.mark.parametrize(
    ("token", "query"),
    [
        ("a+b", "?token=a+b"),
        ("a+b", "?token=a%2Bb"),
        ("a+b", "?tok%65n=a%2bb"),
        ("a;b", "?token=a;b"),
        ("a%2Bb", "?token=a%252Bb"),
        ("a=b", "?x=1&token=a=b"),
        ("a", "?token=wrong&token=a"),
    ],
)
def test_tokens_of_any_characters_in_the_url(start: StartRuntime, token: str, query: str) -> None:
    runtime = start("echo", token=token)
    assert refused_with(runtime, query) == 101
    assert refused_with(runtime, query.replace("a", "b")) == 401


def test_frames_are_not_compressed(start: StartRuntime) -> None:
    with connect(start("echo").ws_url, compression="deflate") as connection:
        assert connection.response is not None
        assert "Sec-WebSocket-Extensions" not in connection.response.headers


def test_large_requests_are_taken_up_to_the_limit(start: StartRuntime) -> None:
    with wire_to(start("echo", max_message_size=2_000_000)) as wire:
        assert len(wire.query("x" * 1_900_000)[0]["data"]["text"]) == 1_900_000
        wire.send_query("x" * 2_100_000)
        assert_closed(wire.connection)
        assert wire.connection.protocol.close_code == 1009


def test_start_and_stop(tmp_path: Path) -> None:
    runtime = LocalRuntime("echo", root=str(tmp_path))
    with pytest.raises(RuntimeError, match="is not running"):
        _ = runtime.ws_url
    runtime.stop()
    assert runtime.start() is runtime
    assert any(thread.name == "runtimeuse-runtime" for thread in threading.enumerate())
    with pytest.raises(RuntimeError, match="already"):
        runtime.start()
    assert repr(runtime) == f"<LocalRuntime {runtime.ws_url}>"
    runtime.stop()
    runtime.stop()
    with pytest.raises(RuntimeError, match="is not running"):
        runtime.ws_url  # noqa: B018
    assert repr(runtime) == "<LocalRuntime not running>"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("runtimeuse-")]
    with runtime, wire_to(runtime) as wire:
        wire.assert_idle()


def test_a_root_that_is_no_directory_is_named_and_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("missing", "file", "file/below"):
        with pytest.raises(ValueError, match=f"root '{tmp_path / name}' is not a directory"):
            LocalRuntime(root=str(tmp_path / name)).start()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_many_may_stop_it_at_once(start: StartRuntime) -> None:
    runtime = start("echo")
    threads = [threading.Thread(target=runtime.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_port_in_use_is_the_callers_error(start: StartRuntime) -> None:
    port = int(start("echo").ws_url.rpartition(":")[2])
    second = LocalRuntime(port=port)
    with pytest.raises(OSError, match="address already in use"):
        second.start()
    second.stop()


def test_a_stop_cancels_what_runs_and_says_so(start: StartRuntime, tmp_path: Path) -> None:
    runtime = start(end_session_delay=60.0)
    with wire_to(runtime) as wire, wire_to(runtime) as idle, wire_to(runtime) as ending:
        wire.send_commands("echo running; sleep 60")
        wire.receive()
        ending.commands("true", artifacts_dirs=["out"])
        ending.send("end_session_message")
        stopping = threading.Thread(target=runtime.stop)
        stopping.start()
        assert wire.receive() == CANCELLED
        for closed in (wire, idle, ending):
            assert_closed(closed.connection)
            assert closed.connection.protocol.close_code == 1001
        stopping.join(PATIENCE)
        assert not stopping.is_alive()


def test_a_stop_does_not_wait_for_clients_that_do_not_read(start: StartRuntime) -> None:
    runtime = start(stop_timeout=60.0)
    port = int(runtime.ws_url.rpartition(":")[2])
    with wire_to(runtime, close_timeout=0.1) as wire, socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\n")
        wire.send_commands("yes")
        wire.receive()
        stopping = threading.Thread(target=runtime.stop)
        stopping.start()
        stopping.join(PATIENCE)
        assert not stopping.is_alive()


def test_an_agent_may_stop_its_own_runtime() -> None:
    async def agent(invocation: Invocation, sender: Sender) -> str:
        runtime.stop()
        return "stopping"

    runtime = LocalRuntime(agent)
    with runtime, wire_to(runtime) as wire:
        assert wire.query()[0]["message_type"] in ("result_message", "error_message")


@pytest.mark.parametrize(
    "settings",
    [
        {"heartbeat_interval": 0.0},
        {"heartbeat_interval": float("nan")},
        {"artifact_settle": -1.0},
        {"stop_timeout": float("inf")},
        {"token": ""},
        {"max_message_size": 0},
    ],
)
def test_settings_that_make_no_sense(settings: Dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        LocalRuntime(**settings)


def in_a_new_interpreter(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=CHILD_LIMIT
    ).stdout


def test_nothing_heavy_is_imported_before_a_start() -> None:
    heavy = "{'websockets', 'watchfiles', 'pathspec', 'requests', 'jsonschema'}"
    code = f"import sys, runtimeuse_sync.runtime; print({heavy} & set(sys.modules))"
    assert in_a_new_interpreter(code) == "set()\n"


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['websockets'] = sys.modules['websockets.asyncio.server'] = None\n"
        "from runtimeuse_sync.runtime import LocalRuntime\n"
        "try: LocalRuntime().start()\n"
        "except ImportError as error: print(error)"
    )
    assert 'pip install "runtimeuse-sync[runtime]"' in in_a_new_interpreter(code)


def test_a_program_that_forgets_to_stop_leaves_no_process(tmp_path: Path) -> None:
    code = f"""
from runtimeuse_sync.runtime import LocalRuntime
from websockets.sync.client import connect
runtime = LocalRuntime(root={str(tmp_path)!r}, stop_timeout=0.5).start()
connection = connect(runtime.ws_url)
command = {{"command": "echo $$ > pid; echo running; sleep 60"}}
import json
connection.send(json.dumps({{"message_type": "command_execution_message", "commands": [command]}}))
connection.recv()
"""
    in_a_new_interpreter(code)
    wait_until_ended(int((tmp_path / "pid").read_text()))
