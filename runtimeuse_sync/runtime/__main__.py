"""Owns the runtime's process (`python -m runtimeuse_sync.runtime`): its command line, signals, output and exit codes.

It prints the URL to stdout once the runtime listens. Log records go to stderr, and so does the reason if the runtime
cannot start.

Signals: the first SIGINT or SIGTERM stops the runtime in order, a second one ends the process at once. SIGHUP, which is
sent when the terminal closes, also stops the runtime in order, however often it comes. Under `nohup` it is ignored.
With `--until-eof` the end of stdin stops it as well: a process that starts it with a pipe and is killed takes it along.

Exit codes: 0 after a stop in order; 2 if the command line is invalid or the runtime cannot start; 130 if Ctrl-C
interrupts the start, or is the second signal. A second SIGTERM kills the process, which then has no exit code.

Threads: the event loop runs on the main thread, and handles the signals there.
"""

import argparse
import asyncio
import errno
import logging
import os
import signal
import sys
from dataclasses import fields
from typing import Iterator, List, Optional, Tuple

from . import event_loop
from .commands.environment import TOKEN_VARIABLE
from .server import RuntimeServer
from .settings import RuntimeSettings, add_options

_logger = logging.getLogger("runtimeuse_sync.runtime")

_DESCRIPTION = """\
Run an agent runtime that clients of RuntimeUse connect to by WebSocket.

It is not a sandbox: clients' commands run with your rights. It cancels all requests and ends on Ctrl-C, on SIGTERM, and
when its terminal closes."""

_EXAMPLES = """\
examples:
  {prog}
  {prog} --agent my_package.agents:Reviewer --port 9000 --root /work
  RUNTIMEUSE_TOKEN=… {prog} --host 0.0.0.0"""

#: How this command line is called, unless another command wraps it.
_PROG = "python -m runtimeuse_sync.runtime"


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=_DESCRIPTION,
        epilog=_EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--agent",
        default="shell",
        metavar="NAME",
        help="shell: runs the prompt as a shell script (default); echo: returns the prompt; claude: the Claude Agent "
        "SDK, needs $ANTHROPIC_API_KEY or the login of claude; openai: the OpenAI Agents SDK with a shell tool, needs "
        "$OPENAI_API_KEY or, for a local model, $OPENAI_BASE_URL; "
        "module:attribute: a function (invocation, sender), or an object with such a method `run`",
    )
    add_options(parser.add_argument)
    parser.add_argument(
        "--until-eof",
        action="store_true",
        help="stop when stdin ends, as a pipe does when the process that holds its other end has ended, even if killed",
    )
    parser.set_defaults(port=8080, token=os.environ.get(TOKEN_VARIABLE) or None, allow_origins=[])
    parser.add_argument(
        "--log-level",
        default="warning",
        choices=["debug", "info", "warning", "error", "critical"],
        help="lowest level of the records that are logged to stderr (default: %(default)s)",
    )
    return parser


def option_names() -> Iterator[Tuple[str, str]]:
    """Yields the long names of the command line's options, each with its help text."""
    for action in _parser(_PROG)._actions:
        for name in action.option_strings:
            if name.startswith("--"):
                yield name, (action.help or "").replace("%(default)s", str(action.default))


def main(arguments: Optional[List[str]] = None, *, prog: str = _PROG) -> int:
    """Runs the runtime until a signal ends it.

    Args:
        arguments: The command line's arguments; `None` for those of the process.
        prog: The name of the command, for its help.

    Returns:
        The exit code: 0 after a stop, 2 if the runtime cannot start, 130 if Ctrl-C interrupted the start or the stop.
    """
    options = _parser(prog).parse_args(arguments)
    # Agents may pass this environment on, however they start processes.
    os.environ.pop(TOKEN_VARIABLE, None)
    logging.basicConfig(
        level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # The debug records of asyncio are noise here, those of HTTP clients contain prompts and headers.
    for name in ("asyncio", "openai", "openai.agents", "httpx", "httpx2", "httpcore", "claude_agent_sdk"):
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))
    try:
        names = {setting.name for setting in fields(RuntimeSettings)}
        settings = RuntimeSettings(**{name: value for name, value in vars(options).items() if name in names})
        server = RuntimeServer(options.agent, settings)
        return event_loop.run(_serve(server, settings, until_eof=options.until_eof), settings.task_timeout)
    except (ValueError, TypeError, ImportError) as error:
        _logger.debug("The runtime could not start", exc_info=error)
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130  # Ctrl-C during the start, or a second one during the stop


async def _serve(server: RuntimeServer, settings: RuntimeSettings, *, until_eof: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Whoever started the process may ignore SIGCHLD, and a process inherits that. Then the system tells nobody how a
    # command has ended, and each failure would look like a success.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        ws_url = await server.start()
    except OverflowError:
        return _fail(f"--port must be between 0 and 65535, not {settings.port}")
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        return _fail(f"cannot listen on {settings.host}:{settings.port}: {reason}")

    def asked_to_stop() -> None:
        stop.set()
        # A second signal ends the process at once.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop)
    if until_eof:
        try:
            loop.add_reader(0, _stop_at_eof, loop, stop)
        except OSError:
            await server.stop()
            return _fail("--until-eof needs a pipe or a terminal as stdin, which is none or a file")
    # Not under nohup, which ignores SIGHUP. The kernel and the shell may both send it for one closed terminal, so a
    # second one does not end the process at once.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    try:
        try:
            print(f"Runtime is listening on {ws_url}", flush=True)
        except OSError as error:
            _discard_stdout()
            return _fail(f"cannot write its address to stdout: {error.strerror or error}")
        await stop.wait()
    finally:
        await server.stop()
    return 0


def _stop_at_eof(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    try:
        ended = not os.read(0, 65536)
    except BlockingIOError:
        return
    except OSError:
        ended = True  # the terminal has closed
    if ended:
        loop.remove_reader(0)
        stop.set()


def _discard_stdout() -> None:
    # The interpreter flushes stdout again when it exits, and would report the failure.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _fail(reason: str) -> int:
    # In one line, whatever the text of an agent's exception.
    print("runtimeuse_sync.runtime:", " ".join(reason.split()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
