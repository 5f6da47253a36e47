"""Performs one run: starts it, writes what it sends, and says how it ended.

Ctrl-C sends the runtime a cancel message and goes on reading: what the command still prints is written, and the process
ends when the run has. Before anything was sent there is nothing to wait for, and it ends at once.

Threads: the main thread.
"""

import contextlib
import logging
import os
import traceback
from typing import Any, Callable, Iterator, Optional, Sequence

from ..client import RuntimeUseClient
from ..run import Run
from ._exits import FAILED, INTERRUPTED, NAME, Failed, exit_of
from ._interrupts import Interrupts
from ._masking import Masking
from ._options import Settings
from ._output import Output
from ._screen import OutputClosed, OutputFailed, Pieces, Screen
from ._status import Status, one_line
from ._target import connected, wrong_usage

_logger = logging.getLogger("runtimeuse_sync")

_CANCELLING = "cancelling; Ctrl-C again leaves at once"


class Stage:
    """What a subcommand works on: the screen, the status, the secrets and the signals. Use it as a context manager.

    Attributes:
        screen: Stdout, stderr and the status line.
        status: What the status line says.
        masking: Masks secrets.
        interrupts: The signals.
    """

    def __init__(
        self,
        settings: Settings,
        secrets: Sequence[str] = (),
        doing: str = "",
        pieces: Optional[Callable[[], Pieces]] = None,
    ) -> None:
        self.masking = Masking(secrets)
        self.status = Status(self.masking.text(doing))
        self.screen = Screen(None if settings.quiet else pieces or self.status.pieces)
        self.interrupts = Interrupts(self._announce, self.screen.leave)
        self._settings = settings
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Stage":
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.interrupts)
            stack.enter_context(self.screen)
            stack.enter_context(_logged(self._settings.verbose, self.screen, self.status))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def ended_by(self, error: BaseException, output: Optional[Output] = None) -> Failed:
        """Says that an exception has ended the subcommand, and returns what to raise in its place.

        Args:
            error: The exception.
            output: Where that goes besides stderr.
        """
        code, line = exit_of(error)
        unwritable = isinstance(error, (OutputClosed, OutputFailed))
        if self.interrupts.hit and not unwritable:
            code, line = INTERRUPTED, None
        line = None if line is None else self.masking.text(line)
        if output is not None and not unwritable:
            try:
                output.failed(error, code, line)
            except (OutputClosed, OutputFailed) as failure:
                return self.ended_by(failure)
        if code == FAILED and self._settings.verbose:
            trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            self.screen.line(self.masking.text(trace).rstrip())
        if line is not None:
            self.screen.line(f"{NAME}: {line}")
        return Failed(code, None)

    def _announce(self) -> None:
        self.status.note = _CANCELLING
        if not self.screen.has_status:
            with contextlib.suppress(OSError):
                # Not by the screen: this is a signal handler.
                os.write(2, f"{NAME}: {_CANCELLING}\n".encode())


def perform(
    settings: Settings,
    stage: Stage,
    start: Callable[[RuntimeUseClient], "Run[Any]"],
    output: Output,
) -> Any:
    """Performs a run, and returns its result once that is written.

    Args:
        settings: Which runtime.
        stage: Where it happens; entered.
        start: Returns the run, not yet entered.
        output: Where its messages and its end go.

    Raises:
        Failed: It has failed, and that has been said.
    """
    try:
        with connected(settings) as client:
            with wrong_usage():
                run = start(client)
            result = _result(stage, run, output)
        if stage.interrupts.hit:
            raise KeyboardInterrupt
        return result
    except (Exception, KeyboardInterrupt) as error:
        raise stage.ended_by(error, output) from error


def _result(stage: Stage, run: "Run[Any]", output: Output) -> Any:
    def cancel() -> None:
        call = run._call
        if call.sent:
            call.cancel_on_runtime()
        else:
            call.abort()

    try:
        stage.interrupts.cancels(cancel)
        try:
            stage.status.note = stage.status.note or "connecting"
            with run:
                if not stage.interrupts.hit:
                    stage.status.note = ""
                stage.status.doing = stage.status.doing or "waiting for the agent"
                for message in run:
                    for shown in stage.masking.messages(message):
                        stage.status.message(shown)
                        output.message(shown)
                result = run.result
        finally:
            stage.interrupts.cancels(None)
    finally:
        # Also of a run that has failed.
        for shown in stage.masking.rest():
            output.message(shown)
    if not stage.interrupts.hit:
        output.result(result)
    return result


@contextlib.contextmanager
def _logged(verbose: int, screen: Screen, status: Status) -> Iterator[None]:
    """Has log records written to the screen, or warnings into the status line, in place of where they would go."""
    before = (_logger.level, _logger.propagate)
    handler = _ToScreen(screen) if verbose else _ToStatus(status)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _logger.addHandler(handler)
    _logger.propagate = False
    if verbose:
        _logger.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)
    try:
        yield
    finally:
        _logger.removeHandler(handler)
        _logger.level, _logger.propagate = before


class _ToStatus(logging.Handler):
    """Notes warnings, such as that connecting has failed and is tried again."""

    def __init__(self, status: Status) -> None:
        super().__init__(logging.WARNING)
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        self._status.note = one_line(record.getMessage())


class _ToScreen(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.line(self.format(record))
