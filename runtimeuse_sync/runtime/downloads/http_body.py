"""Reads the body of an HTTP response and detects an incomplete one.

`urllib3` 1.26 does not notice that a body ended early; no version notices it for a compressed body.

Threads: no state; called in the download's worker thread.
"""

import zlib
from typing import TYPE_CHECKING, Iterator, Optional

if TYPE_CHECKING:
    import requests

#: How much is read and decompressed at a time, in bytes.
_CHUNK = 256 * 1024
#: zlib's parameter for data with a gzip header.
_GZIP = 16 + zlib.MAX_WBITS
#: The padding that may follow compressed data; gzip ignores it as well.
_PADDING = b"\0"


class BodyCutError(ValueError):
    """The server sent less than it had announced, or more."""


def announced_length(response: "requests.Response") -> Optional[int]:
    """Returns the length of the body that the server announced, in bytes; `None` if it did not.

    Raises:
        BodyCutError: the server announced different lengths.
    """
    if response.headers.get("Transfer-Encoding"):
        return None  # it overrides Content-Length (RFC 9112 §6.3)
    # The values of several headers are joined with commas.
    lengths = {length.strip() for length in response.headers.get("Content-Length", "").split(",")}
    if len(lengths) > 1:
        raise BodyCutError("the server announced different lengths")
    [length] = lengths
    return int(length) if length.isdecimal() else None


def whole_body(response: "requests.Response") -> Iterator[bytes]:
    """Yields the decompressed body in pieces of bounded size.

    Raises:
        BodyCutError: the body was incomplete; raised at its end.
        zlib.error: the body is not compressed as its headers say.
        urllib3.exceptions.HTTPError: the connection failed, or a chunk of the body was invalid.
    """
    if response.headers.get("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip"):
        yield from _gunzip(_counted(response, decode=False))
    else:
        yield from _counted(response, decode=True)


def _counted(response: "requests.Response", decode: bool) -> Iterator[bytes]:
    length = announced_length(response)
    yield from response.raw.stream(_CHUNK, decode_content=decode)
    # The bytes on the wire, before they were decoded.
    if length is not None and response.raw.tell() != length:
        raise BodyCutError(f"received {response.raw.tell()} of {length} bytes")


def _gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(_GZIP)
    begun = False
    for piece in pieces:
        begun = begun or bool(piece)
        if decoder.eof:
            piece = piece.lstrip(_PADDING)
        while piece or not decoder.eof:
            if decoder.eof:  # the next of several concatenated members
                decoder = zlib.decompressobj(_GZIP)
            data = decoder.decompress(piece, _CHUNK)
            yield data
            piece = decoder.unused_data.lstrip(_PADDING) if decoder.eof else decoder.unconsumed_tail
            if not piece and len(data) < _CHUNK:
                break
    if begun and not decoder.eof:
        raise BodyCutError("the compressed body ended early")
