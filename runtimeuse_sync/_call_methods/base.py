"""What the methods of clients and sessions stand on.

Threads: everything here runs in the calling thread.
"""

import abc
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Dict, Optional

from .._call import AskedByMany
from .._logs import LoggerLike
from .._wire import validation as check
from .._wire.late_types import late_class
from .._wire.request import Defaults, Request
from ..run import ResultType_co, Run

if TYPE_CHECKING:
    from ..files import Files
else:
    # `files` is imported by its first use.
    Files = late_class("runtimeuse_sync.files", "Files")


class RunsRequests(abc.ABC):
    """What makes a run of a request: a client or a session."""

    _defaults: Defaults

    #: Makes a run of a request. `opentelemetry` puts a method in its place, which gets the client or session, too.
    _new_run: "ClassVar[Callable[..., Run[Any]]]" = Run

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002  # as IPython calls it
        printer.text(repr(self))

    def _repr_html_(self) -> str:
        from .._display import html

        return html.table(type(self).__name__, self._described())

    @abc.abstractmethod
    def _described(self) -> Dict[str, str]:
        """Returns what a notebook shows of this, by name; no secrets."""

    @property
    @abc.abstractmethod
    def files(self) -> "Files":
        """Reads and writes files in the sandbox, over nothing but commands."""

    @abc.abstractmethod
    def _files(
        self, timeout: Optional[float], logger: Optional[LoggerLike], asked: Optional[AskedByMany] = None
    ) -> "Files":
        """Returns the operations on files.

        Args:
            timeout: The time limit in seconds of operations that are given none; `None` for no limit.
            logger: Where they log; `None` is the package's logger.
            asked: What their requests ask whether to cancel; `None` for nothing.
        """

    @abc.abstractmethod
    def _run(self, request: Request, keep_output: Optional[int] = None) -> "Run[Any]":
        """Returns the run of a request, not yet started.

        Args:
            request: The request.
            keep_output: How many bytes of output to keep; `None` is the client's default.
        """


def completing_shown(show: bool) -> "Callable[[Run[ResultType_co]], ResultType_co]":
    """Returns what runs a request to its end, as `complete` does, and shows its messages as they come.

    Args:
        show: What the caller gave for `show`, which is not `False`.

    Raises:
        TypeError: `show` is not a bool.
    """
    check.check_type("show", show, bool, "a bool")
    # Imported by the first call that shows something: importing the client stays fast.
    from .showing import complete_shown

    return complete_shown
