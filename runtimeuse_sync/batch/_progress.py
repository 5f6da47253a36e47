"""Progress of many runs: tqdm's bar, or a function of the user's.

Threads: everything runs in the thread that drives `run_many`.
"""

from typing import Any, Callable, Optional, Union

from .._wire import validation as check

#: Called after each outcome with the number of outcomes so far, and of all jobs (`None` if that is not known).
ProgressCallback = Callable[[int, Optional[int]], object]

#: What `run_many` accepts as `progress`.
Progress = Union[bool, ProgressCallback, None]


class Bar:
    """tqdm's bar; its postfix counts the jobs that failed.

    Args:
        total: The number of jobs; `None` if it is not known.
    """

    def __init__(self, total: Optional[int]) -> None:
        self._bar: Any = _tqdm()(total=total, unit="job")
        self._failed = 0

    def update(self, done: int, ok: bool) -> None:
        """Shows that one more job is done."""
        if not ok:
            self._failed += 1
            self._bar.set_postfix(failed=self._failed, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it is; may be repeated."""
        self._bar.close()


class Called:
    """Calls a function of the user's."""

    def __init__(self, callback: ProgressCallback, total: Optional[int]) -> None:
        self._callback = callback
        self._total = total

    def update(self, done: int, ok: bool) -> None:  # noqa: ARG002  # for the bar
        """Calls the function."""
        self._callback(done, self._total)

    def close(self) -> None:
        """Nothing is to be closed."""


def check_progress(progress: Progress) -> None:
    """Checks the argument `progress`.

    Raises:
        ImportError: It is `True`, and tqdm is not installed.
        TypeError: It is neither a bool nor a plain function.
    """
    if progress is True:
        _tqdm()
    elif progress is not None and progress is not False:
        check.check_callback("progress", progress)


def reporter(progress: Progress, total: Optional[int]) -> "Union[Bar, Called, None]":
    """Returns what shows the progress; `None` if nothing does."""
    if progress is True:
        return Bar(total)
    return Called(progress, total) if progress else None


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install 'runtimeuse-sync[progress]'") from error
    return tqdm
