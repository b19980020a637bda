"""How git gets to a server: only to addresses that the policy has checked.

git looks up the name in a url itself, some time after the policy has, and might find something
else. So it is told the addresses. What it cannot be told leads through the gate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from code_import.policy import DEFAULT_PORTS

from .gittool import installed_version
from .update import Ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from code_import.policy import Policy

    from .gate import Gate

KNOWS_CURLOPT_RESOLVE = (2, 37)


@dataclass(frozen=True, slots=True)
class Route:
    """What git is given in place of a url, and what it is told beside."""

    url: str
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def find_route(url: str, policy: Policy, gate: Gate) -> Route:
    """Return the way to a url that the policy has checked. Raises Forbidden, and Ended."""
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        return Route(url)
    authority, slash, path = rest.partition("/")
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[scheme]
    try:
        addresses = [f"[{a}]" if ":" in a else a for a in policy.resolve(host, port)]
    except OSError:
        raise Ended("failure", f"The name of the host is not known. ({host})") from None
    if scheme == "git":
        if len(addresses) == 1:
            place = f"{addresses[0]}:{port}"
        else:
            place = "{}:{}".format(*gate.forward(host, port))
        told = {"GIT_OVERRIDE_VIRTUAL_HOST": authority}
        return Route(f"git://{place}{slash}{path}", environment=told)
    if addresses == [authority.removesuffix(f":{port}")]:
        return Route(url)
    if (installed_version() or (0, 0)) < KNOWS_CURLOPT_RESOLVE:
        return Route(url, environment=gate.environment())
    pinned = f"http.curloptResolve={host}:{port}:{','.join(addresses)}"
    return Route(url, ("-c", pinned))
