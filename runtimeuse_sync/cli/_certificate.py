"""What a TLS certificate says: who has issued it, until when it is valid. Also of one that is not trusted.

Threads: pure functions, but that a certificate that is not trusted is read from a temporary file.
"""

import os
import socket
import ssl
import tempfile
import time
from typing import Any, Dict, NamedTuple, Optional

_DAY = 24 * 60 * 60


class Certificate(NamedTuple):
    """A server's certificate.

    Attributes:
        issuer: Who has issued it.
        days_left: For how many more days it is valid; negative if it has expired.
    """

    issuer: str
    days_left: float

    def __str__(self) -> str:
        whole = abs(int(self.days_left))
        days = f"{whole} day{'' if whole == 1 else 's'}"
        return f"issued by {self.issuer}, {f'{days} left' if self.days_left >= 0 else f'expired {days} ago'}"


def certificate_of(fields: Dict[str, Any]) -> Optional[Certificate]:
    """Returns the certificate for what `SSLSocket.getpeercert` returns; `None` if that does not say enough."""
    until = fields.get("notAfter")
    if not until:
        return None
    names = {name: value for part in fields.get("issuer", ()) for name, value in part}
    organisation, name = names.get("organizationName"), names.get("commonName")
    issuer = f"{organisation} ({name})" if organisation and name else organisation or name or "nobody by name"
    return Certificate(issuer, (ssl.cert_time_to_seconds(until) - time.time()) / _DAY)


def untrusted_certificate(sock: socket.socket, host: str) -> Optional[Certificate]:
    """Returns the certificate that a server presents, whether or not it is trusted; `None` if it cannot be read.

    Args:
        sock: A connection to the server, which is closed; it has a timeout.
        host: The server's name.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with context.wrap_socket(sock, server_hostname=host) as secured:
            encoded = secured.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return None
    finally:
        sock.close()
    # The standard library reads the fields of a certificate only if it trusts it, or from a file.
    decode = getattr(getattr(ssl, "_ssl", None), "_test_decode_cert", None)
    if encoded is None or decode is None:
        return None
    handle, path = tempfile.mkstemp(prefix="runtimeuse-certificate-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(ssl.DER_cert_to_PEM_cert(encoded))
        return certificate_of(decode(path))
    except (OSError, ValueError):
        return None
    finally:
        os.unlink(path)
