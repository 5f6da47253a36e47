"""A certificate that the default settings of TLS trust, beside the system's own authorities."""

import contextlib
import os
import ssl
import tempfile
from pathlib import Path
from typing import Iterator

import certifi
import trustme


@contextlib.contextmanager
def trusted_certificate() -> Iterator[str]:
    """Yields the path of a server's certificate, with its key, for `localhost`.

    Meanwhile the environment names a file with the system's authorities and the one that issued the certificate. So the
    trust store has its usual size, and all contenders load it as they do in production.
    """
    authority = trustme.CA()
    before = os.environ.get("SSL_CERT_FILE")
    system = Path(ssl.get_default_verify_paths().cafile or certifi.where())
    with tempfile.TemporaryDirectory() as folder:
        trusted, certificate = Path(folder, "authorities.pem"), Path(folder, "server.pem")
        trusted.write_bytes(system.read_bytes() + b"\n" + authority.cert_pem.bytes())
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        os.environ["SSL_CERT_FILE"] = str(trusted)
        try:
            yield str(certificate)
        finally:
            os.environ.pop("SSL_CERT_FILE")
            if before is not None:
                os.environ["SSL_CERT_FILE"] = before
