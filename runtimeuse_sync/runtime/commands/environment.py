"""The environment that commands and agents get. Plain functions; no threads or tasks run here."""

import os
from typing import Dict, Mapping, Optional

#: What lets clients in is nothing for those that they have run.
TOKEN_VARIABLE = "RUNTIMEUSE_TOKEN"


def environment_with(variables: Optional[Mapping[str, str]]) -> Dict[str, str]:
    """Returns this process's environment without the runtime's own token, and the client's variables over it."""
    own = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    return {**own, **(variables or {})}
