"""Makes copies of an object in every way: by copy, deepcopy and each pickle protocol."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Iterator


def duplicates(value: Any) -> Iterator[Any]:
    yield copy.copy(value)
    yield copy.deepcopy(value)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(value, protocol))
