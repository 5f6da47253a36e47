"""`runtimeuse-sync doctor`: says in words what is wrong with a runtime or the way to it, and what to do.

Threads: the main thread.
"""

from typing import Any, Dict, Optional

import click

from ..transports.websocket import WebSocketTransport
from ._checks import FAILED, OK, SKIPPED, WARNING, Examination, Finding
from ._exits import FAILED as EXIT_FAILED
from ._exits import Failed
from ._options import runtime_options, settings_of
from ._output import JsonLines, json_text
from ._run import Stage
from ._screen import Screen
from ._target import connected

#: Seconds for each check, by default.
_LIMIT = 10.0

#: How checks are called in a text, if not by their names.
_NAMES = {"tcp": "TCP", "tls": "TLS"}

#: The widths of the columns, in characters.
_WIDTH, _STATUS_WIDTH = 11, 9

#: How each status is shown.
_SHOWN = {OK: ("ok", "green"), WARNING: ("warning", "yellow"), FAILED: ("FAILED", "bold red"), SKIPPED: ("-", "dim")}


@click.command(short_help="Say what is wrong with a runtime, and what to do.")
@click.argument("address", metavar="[URL]", required=False)
@runtime_options
def doctor(address: Optional[str], **options: Any) -> int:
    """Check the way to a runtime: name, TCP, proxy, TLS, handshake, a command, its clock.

    Says what is wrong and what to do. --timeout is for each check (10 s by default). The exit code is 0 if all is well,
    or else 1.
    """
    if address is not None and options["url"] is not None:
        raise click.UsageError("the URL is given twice: as an argument, and by --url")
    options["url"] = address or options["url"]
    settings = settings_of(options)
    limit, settings.timeout = settings.timeout or _LIMIT, None
    settings.connect_timeout = settings.connect_timeout or limit
    wrong: Optional[Finding] = None
    with Stage(settings, doing="checking") as stage:
        try:
            with connected(settings) as client:
                transport = client._transport
                if not isinstance(transport, WebSocketTransport):
                    raise click.UsageError(
                        "the doctor examines WebSockets, and this runtime has a transport of its own"
                    )
                examination = Examination(transport.ws_url, transport.secrets(), limit, client)
                for finding in examination.findings():
                    _show(finding, stage.screen, as_json=settings.json)
                    if finding.status == FAILED:
                        wrong = finding
        except (Exception, KeyboardInterrupt) as error:
            output = JsonLines(stage.screen, stage.masking) if settings.json else None
            raise stage.ended_by(error, output) from error
        code = 0 if wrong is None else EXIT_FAILED
        if settings.json:
            _write_json({"message_type": "result", "exit_code": code}, stage.screen)
    if wrong is not None:
        raise Failed(code, f"{_NAMES.get(wrong.check, wrong.check)}: {wrong.text}")
    return 0


def _show(finding: Finding, screen: Screen, *, as_json: bool) -> None:
    if as_json:
        _write_json({"message_type": "check", **finding._asdict()}, screen)
        return
    word, style = _SHOWN[finding.status]
    name = f"{_NAMES.get(finding.check, finding.check):<{_WIDTH}}"
    screen.out(f"{name}{screen.styled(f'{word:<{_STATUS_WIDTH}}', style)}{finding.text}\n")
    if finding.advice:
        screen.out(" " * (_WIDTH + _STATUS_WIDTH) + screen.styled(finding.advice, "bold") + "\n")


def _write_json(value: Dict[str, Any], screen: Screen) -> None:
    screen.out(json_text(value, screen) + "\n")
