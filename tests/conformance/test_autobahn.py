"""Autobahn's fuzzing server: hundreds of conversations, legal, odd and broken, that end as RFC 6455 says.

Not part of ordinary runs, since the suite is installed from the package index on its first run and takes minutes:
`tox -e autobahn` asks for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterator

import pytest

from ..support.tally import Tally
from .autobahn import DIRECTORY, Suite, Unavailable, installed
from .echo import messages

AGENT = "runtimeuse_sync"
FAULT = "frames: Autobahn's cases"

#: How long the suite's process may take to listen, and how long it may be silent in a case, in seconds.
STARTING = 60.0

#: Informational: the RFC leaves it open. Non-strict: allowed, but the suite knows better (it fails late on bad UTF-8).
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    directory = os.environ.get(DIRECTORY)
    if not directory:
        pytest.skip(f"only where {DIRECTORY} names a directory to keep the suite in, as `tox -e autobahn` does")
    try:
        python = installed(Path(directory))
    except Unavailable as reason:
        pytest.skip(str(reason))
    with Suite(python, Path(directory).resolve(), tmp_path_factory.mktemp("autobahn")) as suite:
        yield suite


def all_of(suite: Suite, request: str, *, echo: bool = False) -> int:
    """Goes through one conversation, and returns the number that it consists of, where it is one."""
    number = 0
    for message in messages(f"{suite.url}/{request}", echo=echo, seconds=STARTING):
        if not echo:
            number = int(message[1:])
    return number


@pytest.mark.timeout(1800)
def test_every_case(suite: Suite, tally: Tally) -> None:
    count = all_of(suite, "getCaseCount")
    assert count >= 301
    tally.tried(FAULT, count)
    for number in range(1, count + 1):
        all_of(suite, f"runCase?case={number}&agent={AGENT}", echo=True)
    all_of(suite, f"updateReports?agent={AGENT}")
    verdicts = suite.verdicts(AGENT)
    failed: Dict[str, str] = {
        case: f"{verdict['behavior']}, closing {verdict['behaviorClose']}"
        for case, verdict in verdicts.items()
        if not {verdict["behavior"], verdict["behaviorClose"]} <= PASSED
    }
    tally.survived(FAULT, len(verdicts) - len(failed))
    assert len(verdicts) == count
    assert not failed, failed
