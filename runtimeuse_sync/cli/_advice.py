"""What to do about what the doctor's checks find, in words.

Threads: constants.
"""

from typing import Dict, Optional

_NOT_UP = "Something in front of the runtime is there, but the runtime is not: wait until it is up, or restart it."

#: What to do, by the check that has failed, and by what else is known.
ADVICE = {
    "name": "Check the spelling of the host in the URL, and whether this machine can resolve other names.",
    "tcp": "Check the host and port in the URL, and this machine's network.",
    "refused": "Nothing listens there: start the runtime, or correct the port in the URL.",
    "silence": "Check the port in the URL; a firewall may drop the packets, or the machine is down.",
    "proxy setting": "Correct the environment variable https_proxy, http_proxy or all_proxy.",
    "proxy": "Ask who runs the proxy whether it may connect there, or exempt the host by no_proxy.",
    "proxy gone": "The proxy cannot be reached: correct https_proxy, http_proxy or all_proxy, or exempt the host by "
    "no_proxy.",
    "tls": "Probably nothing there speaks TLS: try a ws:// or http:// URL, or another port.",
    "tls silence": "Something accepts connections there and says nothing: check the port in the URL.",
    "certificate": "Have the server present a valid certificate.",
    "handshake": "Something else than an agent runtime listens there: check the port and the path of the URL.",
    "silent runtime": "The runtime accepts connections, but does not answer: it is frozen or overloaded. Restart it.",
    "command": "The runtime cannot run commands: look at its log. If it is no agent runtime at all, check the URL.",
}

PROXY_ADVICE: Dict[Optional[int], str] = {
    403: "The proxy does not allow this host and port: ask who runs it, or exempt the host by no_proxy.",
    407: "The proxy wants a user and a password: https_proxy=http://USER:PASSWORD@HOST:PORT.",
    502: "The proxy cannot reach the host: check host and port in the URL.",
    503: "The proxy cannot reach the host: check host and port in the URL.",
    504: "The proxy cannot reach the host: check host and port in the URL.",
}

#: By OpenSSL's codes.
CERTIFICATE_ADVICE: Dict[int, str] = {
    9: "It is not valid yet: check this machine's clock.",
    10: "It has expired: renew it on the server. If it has not, check this machine's clock.",
    18: "It is signed by itself: if you trust it, set SSL_CERT_FILE to a file with it.",
    19: "Its authority is not known here: if you trust it, set SSL_CERT_FILE to a file with its certificate.",
    20: "Its authority is not known here, or the server leaves out a certificate between: set SSL_CERT_FILE to a file "
    "with that of the authority, or have the server send the whole chain.",
    21: "Its authority is not known here, or the server leaves out a certificate between: set SSL_CERT_FILE to a file "
    "with that of the authority, or have the server send the whole chain.",
    62: "It is for another host name: correct the host in the URL, or the certificate.",
    64: "It is for another address: use the host name in the URL.",
}

HANDSHAKE_ADVICE: Dict[Optional[int], str] = {
    400: "The server does not take it for a WebSocket: check the path of the URL, and proxies in front of the runtime.",
    401: "The server wants credentials: pass --header 'Authorization: Bearer TOKEN', or the token that it takes in the "
    "URL.",
    403: "The server refuses these credentials, or this address: check --header, and the token in the URL.",
    404: "There is no runtime at this path: check the path of the URL.",
    426: "The server does not take it for a WebSocket: check proxies in front of the runtime.",
    429: "The server wants fewer connections: wait, then try again.",
    500: "The server has failed: look at its log.",
    502: _NOT_UP,
    503: _NOT_UP,
    504: _NOT_UP,
}
