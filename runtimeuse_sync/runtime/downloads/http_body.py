"""Reads the body of an HTTP response, and knows whether it is whole. Pure functions, in the download's worker thread.

`urllib3` 1.26 takes a body that ends early for a whole one, and no version sees it of a compressed one.
"""

import zlib
from typing import TYPE_CHECKING, Iterator, Optional

if TYPE_CHECKING:
    import requests

#: How much is read, and decompressed, at a time, in bytes.
_CHUNK = 256 * 1024
#: Tells zlib that a gzip header comes.
_GZIP = 16 + zlib.MAX_WBITS
#: What may follow the compressed data, and counts for nothing; gzip itself takes it so, too.
_PADDING = b"\0"


class BodyCutError(ValueError):
    """The other side sent less than it had announced, or more."""


def announced_length(response: "requests.Response") -> Optional[int]:
    """Returns how many bytes the other side says that it sends; `None` where it does not.

    Raises:
        BodyCutError: it says two things at once.
    """
    if response.headers.get("Transfer-Encoding"):
        return None  # which is what counts then (RFC 9112, 6.3)
    # Of several headers, the values stand in one, after each other.
    said = {length.strip() for length in response.headers.get("Content-Length", "").split(",")}
    if len(said) > 1:
        raise BodyCutError("the other side announced two lengths")
    [length] = said
    return int(length) if length.isdecimal() else None


def whole_body(response: "requests.Response") -> Iterator[bytes]:
    """Yields the body, decompressed, in pieces of bounded size.

    Raises:
        BodyCutError: it was not whole; raised at its end.
        zlib.error: it is not compressed as its headers say.
        urllib3.exceptions.HTTPError: the connection failed, or a chunk of the body did.
    """
    if response.headers.get("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip"):
        yield from _gunzip(_counted(response, decode=False))
    else:
        yield from _counted(response, decode=True)


def _counted(response: "requests.Response", decode: bool) -> Iterator[bytes]:
    length = announced_length(response)
    yield from response.raw.stream(_CHUNK, decode_content=decode)
    # What came over the wire, whatever it has become by decoding.
    if length is not None and response.raw.tell() != length:
        raise BodyCutError(f"{response.raw.tell()} of {length} bytes came")


def _gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(_GZIP)
    begun = False
    for piece in pieces:
        begun = begun or bool(piece)
        if decoder.eof:
            piece = piece.lstrip(_PADDING)
        while piece or not decoder.eof:
            if decoder.eof:  # the next one of several put together
                decoder = zlib.decompressobj(_GZIP)
            data = decoder.decompress(piece, _CHUNK)
            yield data
            piece = decoder.unused_data.lstrip(_PADDING) if decoder.eof else decoder.unconsumed_tail
            if not piece and len(data) < _CHUNK:
                break
    if begun and not decoder.eof:
        raise BodyCutError("the compressed body ended early")
