"""`python -m runtimeuse_sync`: the command `runtimeuse-sync`, for an interpreter whose scripts are not on the PATH.

Threads: those of the command.
"""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
