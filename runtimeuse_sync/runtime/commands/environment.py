"""Builds the environment of commands and agents.

Threads: any thread may call it. It reads this process's environment and has no other state.
"""

import os
from typing import Dict, Mapping, Optional

#: The variable with the clients' access token. Commands and agents must not see it.
TOKEN_VARIABLE = "RUNTIMEUSE_TOKEN"


def environment_with(variables: Optional[Mapping[str, str]]) -> Dict[str, str]:
    """Returns this process's environment without the runtime's token, updated with the given variables."""
    own = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    return {**own, **(variables or {})}
