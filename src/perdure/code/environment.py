"""What the code ran with: the interpreter, the platform, and the versions of distributions.

- Versions are read from the names of metadata directories; nothing is imported and no metadata is parsed.
- Of the machine nothing is told but its kind and that of its system.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping

Packages = tuple[tuple[str, str], ...]

_SITE = re.compile(r"^(.*[\\/](?:site|dist)-packages)[\\/](.+)$", re.DOTALL)
_SEPARATORS = re.compile(r"[-_.]+")
_METADATA = re.compile(r"^([^-]+)-([^-]+?)(?:-py[\d.]+)?(?:-[^-]*)?\.(?:dist|egg)-info$")

_listings: dict[str, tuple[int, dict[str, tuple[str, str]]]] = {}
_owners: dict[tuple[str, str], str] = {}


def describe_python() -> str:
    """Implementation and version: `cpython 3.11.7`."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    level = "" if sys.version_info.releaselevel == "final" else f" {sys.version_info.releaselevel}"
    return f"{sys.implementation.name} {version}{level}"


def describe_platform() -> str:
    """System and machine: `Linux x86_64`."""
    if hasattr(os, "uname"):  # `platform` would be one more import
        system = os.uname()
        return f"{system.sysname} {system.machine}"
    import platform

    return f"{platform.system()} {platform.machine()}"


def versions_of(files: Mapping[str, str]) -> Packages:
    """The distributions that modules (names and files) belong to, with their versions; sorted by name."""
    found = (_distribution_of(name, file) for name, file in files.items())
    return tuple(sorted({distribution for distribution in found if distribution is not None}))


def all_versions(path: Iterable[str] | None = None) -> Packages:
    """Every distribution on `path` (default `sys.path`); of two of one name, the first counts, as in an import."""
    versions: dict[str, str] = {}
    for place in sys.path if path is None else path:
        for name, (version, _) in _listing(place or os.curdir).items():
            versions.setdefault(name, version)
    return tuple(sorted(versions.items()))


def _distribution_of(name: str, file: str) -> tuple[str, str] | None:
    match = _SITE.match(file)
    if match:
        site, inside = match[1], match[2].replace(os.sep, "/")
    else:  # installed into a directory of its own
        parts = name.count(".") + (2 if os.path.basename(file).startswith("__init__.") else 1)
        site, inside = file, "/".join(file.split(os.sep)[-parts:])
        for _ in range(parts):
            site = os.path.dirname(site)
    listing = _listing(site)
    owner = _normal(inside.split("/")[0].partition(".")[0])
    if owner not in listing:
        key = (site, inside)
        if key not in _owners:
            _owners[key] = _search_owner(site, inside, listing)
        owner = _owners[key]
    return (owner, listing[owner][0]) if owner in listing else None


def _listing(site: str) -> dict[str, tuple[str, str]]:
    """The distributions whose metadata is in a directory: names to versions and the names of their directories."""
    try:
        changed = os.stat(site).st_mtime_ns
        if site in _listings and _listings[site][0] == changed:
            return _listings[site][1]
        entries = sorted(os.listdir(site))
    except OSError:
        return {}
    found = {}
    for entry in entries:
        if match := _METADATA.match(entry):
            found[_normal(match[1])] = (match[2], entry)
    _listings[site] = (changed, found)
    return found


def _search_owner(site: str, inside: str, listing: Mapping[str, tuple[str, str]]) -> str:
    """The distribution that lists the file, for a module that is not called like its distribution."""
    top = inside.split("/")[0]
    for name, (_, entry) in listing.items():
        for register, line in (("RECORD", f"\n{inside},"), ("top_level.txt", f"\n{top.removesuffix('.py')}\n")):
            try:
                with open(os.path.join(site, entry, register), encoding="utf-8", errors="replace") as file:
                    if line in f"\n{file.read()}\n":
                        return name
            except OSError:
                continue
    return ""


def _normal(name: str) -> str:
    return _SEPARATORS.sub("-", name).lower()
