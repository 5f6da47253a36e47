"""The promises of `docs/PROMISES.md`, tested from outside, over real sockets. Each docstring names its promise."""
