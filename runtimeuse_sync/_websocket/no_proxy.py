"""Which hosts are reached without the environment's proxy: the rules of `no_proxy`, as curl, requests and Go have them.

An entry is `*` for all; a name, for the host itself and all below it, with or without a leading dot or `*.`; an
address; or a network such as `10.0.0.0/8`. A port behind it, `name:8080` or `[::1]:8080`, limits it to that port.
Entries are separated by commas or blanks. What makes no sense matches nothing. Pure functions; no threads run here.
"""

import ipaddress
import re
from typing import Optional, Tuple, Union

_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def bypassed(no_proxy: str, host: str, port: int) -> bool:
    """Returns whether a host and port are reached without a proxy."""
    name = host.lower().rstrip(".")
    address = _address(name)
    return any(_matches(entry, name, address, port) for entry in re.split(r"[,\s]+", no_proxy.lower()) if entry)


def _matches(entry: str, name: str, address: Optional[_Address], port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _holds(entry, address)
    entry, entry_port = _split_port(entry)
    if entry_port and entry_port != str(port):
        return False
    if address is not None:
        return _address(entry) == address
    below = re.sub(r"^(\*?\.)+", "", entry).rstrip(".")
    return bool(below) and (name == below or name.endswith("." + below))


def _split_port(entry: str) -> Tuple[str, str]:
    """Returns an entry without its port, and the port; more colons than one are an IPv6 address, brackets or not."""
    found = re.fullmatch(r"\[(.*)\](?::([0-9]+))?|([^:]*):([0-9]+)", entry)
    if found is None:
        return entry, ""
    return found.group(1) or found.group(3) or "", found.group(2) or found.group(4) or ""


def _address(text: str) -> Optional[_Address]:
    """Returns a literal address, without a zone; an IPv4 one that is written as IPv6 as what it is."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _holds(network: str, address: _Address) -> bool:
    try:
        return address in ipaddress.ip_network(network.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return False
