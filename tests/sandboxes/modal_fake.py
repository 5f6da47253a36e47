"""Modal: the SDK's own gRPC calls, answered by a server in its API's place."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import threading
import time
from typing import Any, Dict, List

from grpclib.const import Handler
from grpclib.server import Server
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientBase

from .provider import PORT, Provider, event_of_program

provider = Provider(event_of_program(), "*.modal.test")
# The tunnel is there before anything listens behind it, and closes the connection.
provider.cold_status = ""
DONE = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)


def token() -> str:
    parts: List[Dict[str, Any]] = [{"alg": "none"}, {"exp": int(time.time()) + 3600}]
    return ".".join([base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts] + [""])


def create(request: Any) -> Dict[str, Any]:
    provider.asked.append("create")
    definition = request.definition
    assert definition.timeout_secs == 600
    assert [each.port for each in definition.open_ports.ports] == [PORT]
    assert not definition.open_ports.ports[0].unencrypted
    environment = {name: value for each in request.secret_sources for name, value in each.env.contents.items()}
    provider.start_runtime(" ".join(definition.entrypoint_args), environment)
    return {"sandbox_id": "sb-1"}


def tunnels(_: Any) -> Dict[str, Any]:
    tunnel = api_pb2.TunnelData(host="box.modal.test", port=provider.port, container_port=PORT)
    return {"result": DONE, "tunnels": [tunnel]}


def terminate(_: Any) -> Dict[str, Any]:
    provider.killed()
    return {}


#: The version of the image builder is one that the SDK knows.
SETTINGS = api_pb2.EnvironmentSettings(image_builder_version="2025.06")
METADATA = api_pb2.EnvironmentMetadata(name="main", settings=SETTINGS)

#: The fields of the answers to calls; without the version of a call, which the SDK chooses.
ANSWERS = {
    "AppGetOrCreate": lambda _: {"app_id": "ap-1"},
    "AuthTokenGet": lambda _: {"token": token()},
    "ClientHello": lambda _: {},
    "EnvironmentGetOrCreate": lambda _: {"environment_id": "en-1", "metadata": METADATA},
    "ImageGetOrCreate": lambda _: {"image_id": "im-1", "result": DONE},
    "MountGetOrCreate": lambda _: {"mount_id": "mo-1"},
    "SandboxCreate": create,
    "SandboxGetTunnels": tunnels,
    "SandboxTerminate": terminate,
    "SecretGetOrCreate": lambda _: {"secret_id": "st-1"},
}


class Service:
    """The API: each call is answered as the table says, and those that are not in it fail."""

    def __mapping__(self) -> Dict[str, Handler]:
        methods = dict.fromkeys(ModalClientBase.__abstractmethods__, self._unknown)
        whole: Any = type("Whole", (ModalClientBase,), methods)
        return {path: self._handler(path, each) for path, each in ModalClientBase.__mapping__(whole()).items()}

    @staticmethod
    async def _unknown(stream: Any) -> None:
        raise AssertionError(stream)

    @staticmethod
    def _handler(path: str, declared: Handler) -> Handler:
        name = path.rpartition("/")[2]

        async def handle(stream: Any) -> None:
            request = await stream.recv_message()
            answer = ANSWERS.get(name[:-2] if name.endswith("V2") else name)
            if answer is None:
                provider.asked.append(f"unknown: {name}")
                raise LookupError(name)
            await stream.send_message(declared.reply_type(**answer(request)))

        return declared._replace(func=handle)


async def serve() -> None:
    server = Server([Service()])
    await server.start("127.0.0.1", 0)
    assert server._server is not None
    os.environ["MODAL_SERVER_URL"] = f"http://127.0.0.1:{server._server.sockets[0].getsockname()[1]}"
    serving.set()
    await asyncio.Event().wait()


serving = threading.Event()
threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
serving.wait()
os.environ.update(MODAL_TOKEN_ID="ak-1", MODAL_TOKEN_SECRET="as-1")
provider.run_example("on_modal")
