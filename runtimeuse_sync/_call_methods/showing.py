"""Completes a run and shows its messages meanwhile: what calls with `show=True` do.

A message goes to the caller's callback first, then to the view. A failure to show it, such as a closed stdout, ends the
run as a callback's exception does.

Threads: everything here runs in the calling thread.
"""

from .._call import shortened
from .._display.live import View, view_for
from .._interrupts import raised_by_a_signal_handler
from .._session.reader import Paused
from ..errors import CancelledException
from ..messages import AssistantMessageInterface, CommandOutputMessageInterface
from ..run import ResultType_co, Run, complete


def complete_shown(run: "Run[ResultType_co]") -> ResultType_co:
    """Runs a request to its end, as `complete` does, and shows its messages as they come."""
    view = view_for(run._request.kind, run._request.options.secrets_to_redact, run._call.now)
    if view is None:
        return complete(run)
    try:
        result = complete(run, lambda: _follow(run, view))
    except BaseException as error:
        _end_after(error, view)
        raise shortened(error)  # noqa: B904  # the same exception
    view.end("done")
    return result


def _follow(run: "Run[ResultType_co]", view: View) -> None:
    while True:
        try:
            message = run._next(pause_at=view.due)
        except Paused:
            view.refresh()
            continue
        if message is None:
            return
        if isinstance(message, AssistantMessageInterface):
            view.add_said(message.text)
        elif isinstance(message, CommandOutputMessageInterface):
            view.add_printed(message.text, message.command)


def _end_after(error: BaseException, view: View) -> None:
    """Ends the view of a run that has failed; the call raises that error even where the view cannot be ended."""
    try:
        view.end(_how(error))
    except (OSError, ValueError) as problem:
        # A stdout that is closed.
        if raised_by_a_signal_handler(problem):
            raise


def _how(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "cancelled" if isinstance(error, CancelledException) else f"failed ({type(error).__name__})"
