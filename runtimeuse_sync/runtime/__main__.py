"""`python -m runtimeuse_sync.runtime`: the runtime as a process of its own, on the main thread."""

import argparse
import asyncio
import errno
import logging
import os
import signal
import sys
from typing import List, Optional

from . import event_loop
from .commands.environment import TOKEN_VARIABLE
from .server import RuntimeServer
from .settings import RuntimeSettings

_logger = logging.getLogger("runtimeuse_sync.runtime")

_DESCRIPTION = """\
Run an agent runtime that clients of RuntimeUse connect to by WebSocket.

It runs what clients send with your rights: it is no sandbox. Ctrl-C, SIGTERM, or the end of its terminal cancels what
runs and ends it."""

_EXAMPLES = """\
examples:
  python -m runtimeuse_sync.runtime
  python -m runtimeuse_sync.runtime --agent my_package.agents:Reviewer --port 9000 --root /work
  RUNTIMEUSE_TOKEN=… python -m runtimeuse_sync.runtime --host 0.0.0.0"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtimeuse_sync.runtime",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--agent",
        default="shell",
        metavar="NAME",
        help="shell: the prompt is a shell script (default); echo: the answer is the prompt; openai: the OpenAI Agents "
        "SDK with a shell tool, needs $OPENAI_API_KEY or, for a local model, $OPENAI_BASE_URL; "
        "module:attribute: a function (invocation, sender), or something with such a method run",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on, 0 for any (default: %(default)s)")
    parser.add_argument(
        "--root", default=".", metavar="DIR", help="directory where commands and agents run (default: this one)"
    )
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE) or None,
        help="what clients must show, as 'Authorization: Bearer TOKEN' or '?token=TOKEN'; a must for a host that is "
        "not loopback (default: $RUNTIMEUSE_TOKEN, which, unlike the option, nobody sees in a list of processes)",
    )
    parser.add_argument("--no-auth", action="store_true", help="let anybody in, also on a host that is not loopback")
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let in browsers that show a page from there, '*' for all; may be repeated (default: none)",
    )
    parser.add_argument(
        "--log-level",
        default="warning",
        choices=["debug", "info", "warning", "error", "critical"],
        help="what to log to stderr (default: %(default)s)",
    )
    defaults = RuntimeSettings()
    for name, text in (
        ("heartbeat-interval", "between heartbeats while a request is in flight"),
        ("kill-grace", "between SIGTERM and SIGKILL when a command is cancelled"),
        ("stop-timeout", "that a stop waits for what runs, before it kills commands and leaves agents behind"),
        ("artifact-settle", "that a new file must stay the same before it is announced"),
        ("end-session-delay", "that the end of a session waits for late files"),
        ("upload-response-timeout", "that it waits for the next answer to an upload request"),
        ("upload-timeout", "that an upload may make no progress before it is broken off"),
    ):
        default = getattr(defaults, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=float, default=default, metavar="S", help=f"seconds {text} (default: {default:g})"
        )
    parser.add_argument(
        "--max-stdout",
        type=int,
        metavar="N",
        help="the most characters of a command's stdout that its result has; streaming is not cut (default: no limit)",
    )
    parser.add_argument(
        "--max-download-size",
        type=int,
        default=defaults.max_download_size,
        metavar="N",
        help="the most bytes that a download, or what is extracted from it, may have (default: 10 GiB)",
    )
    return parser


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs the runtime until a signal ends it; returns the exit code."""
    options = _parser().parse_args(arguments)
    # Agents may hand on what they find, whichever way they start processes.
    os.environ.pop(TOKEN_VARIABLE, None)
    logging.basicConfig(
        level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Nobody wants asyncio's own debugging notes here, and those of HTTP clients have prompts and headers.
    for name in ("asyncio", "openai", "openai.agents", "httpx", "httpx2", "httpcore"):
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))
    try:
        settings = RuntimeSettings(
            host=options.host,
            port=options.port,
            root=options.root,
            token=options.token,
            no_auth=options.no_auth,
            allow_origins=tuple(options.allow_origin),
            heartbeat_interval=options.heartbeat_interval,
            kill_grace=options.kill_grace,
            stop_timeout=options.stop_timeout,
            artifact_settle=options.artifact_settle,
            end_session_delay=options.end_session_delay,
            upload_response_timeout=options.upload_response_timeout,
            upload_timeout=options.upload_timeout,
            max_stdout=options.max_stdout,
            max_download_size=options.max_download_size,
        )
        server = RuntimeServer(options.agent, settings)
        return event_loop.run(_serve(server, settings), settings.task_timeout)
    except (ValueError, TypeError, ImportError) as error:
        _logger.debug("It could not start", exc_info=error)
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130  # a second Ctrl-C, while the first one's stop was under way


async def _serve(server: RuntimeServer, settings: RuntimeSettings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        ws_url = await server.start()
    except OverflowError:
        return _fail(f"--port must be 0 to 65535, not {settings.port}")
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        return _fail(f"cannot listen on {settings.host}:{settings.port}: {reason}")

    def asked_to_stop() -> None:
        stop.set()
        # Who asks twice wants it sooner.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop)
    # Not under nohup. Of a terminal that is closed, the kernel and the shell may both tell: once is meant.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    try:
        try:
            print(f"Runtime is listening on {ws_url}", flush=True)
        except OSError as error:
            _discard_stdout()
            return _fail(f"cannot say on stdout where it listens: {error.strerror or error}")
        await stop.wait()
    finally:
        await server.stop()
    return 0


def _discard_stdout() -> None:
    # What could not be written is tried again at the interpreter's end, which then complains.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _fail(reason: str) -> int:
    # One line, whatever an agent's module has to say.
    print("runtimeuse_sync.runtime:", " ".join(reason.split()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
