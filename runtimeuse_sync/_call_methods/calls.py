"""All the methods that clients and sessions share.

Threads: everything here runs in the calling thread.
"""

from .commands import ShellCommands
from .queries import Queries


class Calls(Queries, ShellCommands):
    """Queries and commands of a client or a session; each is one run."""
