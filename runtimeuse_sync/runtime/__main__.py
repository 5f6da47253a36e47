"""`python -m runtimeuse_sync.runtime`: the runtime as a process of its own, on the main thread."""

import argparse
import asyncio
import errno
import logging
import os
import signal
import sys
from dataclasses import fields
from typing import List, Optional

from . import event_loop
from .commands.environment import TOKEN_VARIABLE
from .server import RuntimeServer
from .settings import RuntimeSettings, add_options

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
    add_options(parser.add_argument)
    parser.set_defaults(port=8080, token=os.environ.get(TOKEN_VARIABLE) or None, allow_origins=[])
    parser.add_argument(
        "--log-level",
        default="warning",
        choices=["debug", "info", "warning", "error", "critical"],
        help="what to log to stderr (default: %(default)s)",
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
        names = {setting.name for setting in fields(RuntimeSettings)}
        settings = RuntimeSettings(**{name: value for name, value in vars(options).items() if name in names})
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
