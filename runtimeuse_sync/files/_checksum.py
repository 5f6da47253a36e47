"""The checksum of the POSIX utility `cksum`, at the speed of zlib.

`cksum` is what every POSIX system has. Its CRC uses the polynomial of zlib's, but takes the bits of each byte in the
opposite order, starts from zero, and ends with the length. So zlib computes it from bytes with reversed bits.

Threads: nothing is shared.
"""

import zlib

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Checksum:
    """The checksum and size of bytes that come in pieces.

    Attributes:
        size: The number of bytes so far.
    """

    __slots__ = ("_crc", "size")

    def __init__(self, data: bytes = b"") -> None:
        # zlib inverts the value at the start and at the end: this is a start from zero.
        self._crc = 0xFFFFFFFF
        self.size = 0
        self.add(data)

    def add(self, data: bytes) -> None:
        """Adds the next piece."""
        self._crc = zlib.crc32(data.translate(_REVERSED), self._crc)
        self.size += len(data)

    def __str__(self) -> str:
        """Returns the checksum and the size as `cksum` prints them."""
        length = self.size.to_bytes((self.size.bit_length() + 7) // 8, "little")
        crc = zlib.crc32(length.translate(_REVERSED), self._crc)
        return f"{int(f'{crc:032b}'[::-1], 2)} {self.size}"
