"""The checksum is that of the utility `cksum`."""

from __future__ import annotations

import subprocess

import pytest

from runtimeuse_sync.files._checksum import Checksum


@pytest.mark.parametrize("data", [b"", b"a", b"123456789", bytes(range(256)) * 300, bytes(70_000)], ids=len)
def test_it_is_what_cksum_prints(data: bytes) -> None:
    printed = subprocess.run(["cksum"], input=data, stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    assert str(Checksum(data)) == printed
    in_pieces = Checksum()
    for at in range(0, len(data), 1000):
        in_pieces.add(data[at : at + 1000])
    assert str(in_pieces) == printed
    assert in_pieces.size == len(data)
    # Asking does not end it.
    assert str(in_pieces) == printed
