"""`--filter name=value`: which containers, images, networks and volumes a list shows.

Several values of one filter are alternatives, but for labels, which must all be there; different filters must all fit.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from cutaway.engine import summary, units
from cutaway.engine.errors import InvalidArgument, NotFound
from cutaway.engine.options import values

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from cutaway.engine.model import Container, ImageSummary, Network, Volume

Item = TypeVar("Item")
Test = Callable[[Item, str], bool]
Filters = dict[str, list[str]]

STATUSES = frozenset({"created", "restarting", "running", "removing", "paused", "exited", "dead"})
BUILT_IN_NETWORKS = frozenset({"bridge", "host", "none"})


def read(texts: Iterable[str]) -> Filters:
    """From `["status=exited", "label=a"]`. Raises `InvalidArgument`."""
    found: Filters = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise InvalidArgument(f"bad format of filter: {text} (expected name=value)")
        found.setdefault(name.strip().lower(), []).append(value.strip())
    return found


def containers(
    items: Sequence[Container], filters: Filters, descendants: Mapping[str, Collection[str]]
) -> list[Container]:
    """Those of `items` that fit; `descendants`: for each image that `ancestor` names, the IDs of those made of it."""
    tests: dict[str, Test[Container]] = {
        "id": lambda container, value: container.Id.startswith(value),
        "name": lambda container, value: bool(_pattern(value).search(container.Name)),
        "label": lambda container, value: _has_label(container.Config.Labels, value),
        "status": lambda container, value: container.State.Status == _known("status", value, STATUSES),
        "exited": lambda container, value: _exited_with(container, values.integer(value)),
        "ancestor": lambda container, value: container.Image in descendants[value] or container.Config.Image == value,
        "before": lambda container, value: container.Created < _container(items, value).Created,
        "since": lambda container, value: container.Created > _container(items, value).Created,
        "volume": lambda container, value: any(value in (each.Name, each.Destination) for each in container.Mounts),
        "network": _is_on_network,
        "publish": lambda container, value: _has_port(container, value, published=True),
        "expose": lambda container, value: _has_port(container, value, published=False),
        "health": lambda _, value: _known("health", value, _HEALTH) == "none",
    }
    return _fitting(items, filters, tests)


def images(items: Sequence[ImageSummary], filters: Filters) -> list[ImageSummary]:
    """Those of `items`, the newest first, that fit."""
    age = {image.Id: position for position, image in enumerate(items)}
    tests: dict[str, Test[ImageSummary]] = {
        "dangling": lambda image, value: bool(image.RepoTags) != values.boolean(value),
        "label": lambda image, value: _has_label(image.Labels, value),
        "reference": _has_reference,
        "before": lambda image, value: age[image.Id] > age[_image(items, value).Id],
        "since": lambda image, value: age[image.Id] < age[_image(items, value).Id],
        "until": lambda image, value: image.Created < moment(value, time.time()),
    }
    return _fitting(items, filters, tests)


def networks(items: Sequence[Network], filters: Filters) -> list[Network]:
    tests: dict[str, Test[Network]] = {
        "id": lambda network, value: network.Id.startswith(value),
        "name": lambda network, value: bool(_pattern(value).search(network.Name)),
        "label": lambda network, value: _has_label(network.Labels, value),
        "driver": lambda network, value: network.Driver == value,
        "scope": lambda network, value: network.Scope == value,
        "type": lambda network, value: _known("type", value, _NETWORK_TYPES) == _network_type(network),
        "dangling": lambda network, value: _is_dangling(network) == values.boolean(value),
    }
    return _fitting(items, filters, tests)


def volumes(items: Sequence[Volume], filters: Filters, used: Iterable[str]) -> list[Volume]:
    """Those of `items` that fit; `used` are the names of those that a container has."""
    taken = set(used)
    tests: dict[str, Test[Volume]] = {
        "name": lambda volume, value: bool(_pattern(value).search(volume.Name)),
        "label": lambda volume, value: _has_label(volume.Labels, value),
        "driver": lambda volume, value: volume.Driver == value,
        "dangling": lambda volume, value: (volume.Name not in taken) == values.boolean(value),
    }
    return _fitting(items, filters, tests)


def to_prune(filters: Filters, *, until: bool = True) -> Callable[[str | float, Mapping[str, str]], bool]:
    """Whether a thing, given when it was made and its labels, is among those that a `prune` with these filters means.

    `until`: things of this kind can be told by their age. Raises `InvalidArgument`.
    """
    for name in filters:
        if name not in ("label", "label!", *(("until",) if until else ())):
            raise InvalidArgument(f"Invalid filter '{name}'")
    if len(filters.get("until", ())) > 1:
        raise InvalidArgument("more than one until filter specified")
    try:
        latest = [moment(text, time.time()) for text in filters.get("until", ())]
    except ValueError as problem:
        raise InvalidArgument(str(problem)) from None

    def fits(created: str | float, labels: Mapping[str, str]) -> bool:
        then = units.seconds_of(created) if isinstance(created, str) else created
        return (
            all(then < each for each in latest)
            and all(_has_label(labels, each) for each in filters.get("label", ()))
            and not any(_has_label(labels, each) for each in filters.get("label!", ()))
        )

    return fits


_HEALTH = frozenset({"none", "starting", "healthy", "unhealthy"})
_NETWORK_TYPES = frozenset({"builtin", "custom"})


def _fitting(items: Iterable[Item], filters: Filters, tests: Mapping[str, Test[Item]]) -> list[Item]:
    for name in filters:
        if name not in tests:
            raise InvalidArgument(f"Invalid filter '{name}'")
    try:
        return [item for item in items if all(_fits(tests, item, name, filters[name]) for name in filters)]
    except ValueError as problem:
        raise InvalidArgument(str(problem)) from None


def _fits(tests: Mapping[str, Test[Item]], item: Item, name: str, wanted: Sequence[str]) -> bool:
    how_many = all if name == "label" else any
    return how_many(tests[name](item, value) for value in wanted)


def _known(name: str, value: str, choices: frozenset[str]) -> str:
    if value not in choices:
        raise ValueError(f"Invalid filter '{name}={value}'")
    return value


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error:
        return re.compile(re.escape(text))


def _has_label(labels: Mapping[str, str] | None, wanted: str) -> bool:
    name, separator, value = wanted.partition("=")
    found = (labels or {}).get(name)
    return found is not None and (not separator or found == value)


def _exited_with(container: Container, code: int) -> bool:
    state = container.State
    return state.Status == "exited" and state.ExitCode == code


def _container(items: Sequence[Container], name: str) -> Container:
    for container in items:
        if container.Name == "/" + name.removeprefix("/") or container.Id.startswith(name):
            return container
    raise NotFound(f"No such container: {name}", "container", name)


def _image(items: Sequence[ImageSummary], name: str) -> ImageSummary:
    for image in items:
        if name in _names(image) or image.Id.removeprefix("sha256:").startswith(name.removeprefix("sha256:")):
            return image
    raise NotFound(f"No such image: {name}", "image", name)


def _names(image: ImageSummary) -> set[str]:
    """Its references, those with the tag `latest` also without it."""
    return {*image.RepoTags, *image.RepoDigests, *(name.removesuffix(":latest") for name in image.RepoTags)}


def _is_on_network(container: Container, name: str) -> bool:
    return any(
        name == network or (endpoint.NetworkID and endpoint.NetworkID.startswith(name))
        for network, endpoint in container.NetworkSettings.Networks.items()
    )


def _has_port(container: Container, wanted: str, *, published: bool) -> bool:
    """`80`, `80/udp`, `80-90/tcp`: a port it listens on, or one of the host's that leads to it."""
    numbers, _, protocol = wanted.partition("/")
    first, separator, last = numbers.partition("-")
    low, high = values.integer(first), values.integer(last if separator else first)
    ports = [
        (port.PublicPort if published else port.PrivatePort, port.Type)
        for port in summary.ports(container)
        if port.PublicPort or not published
    ]
    return any(low <= number <= high and kind == (protocol or "tcp") for number, kind in ports)


def _has_reference(image: ImageSummary, pattern: str) -> bool:
    return any(names_match(name, [pattern]) for name in image.RepoTags)


def names_match(name: str, patterns: Iterable[str]) -> bool:
    """Whether an image's name is one of `busybox`, `*/nginx:1.*`; a pattern without a tag stands for all tags."""
    bare = name.rpartition(":")[0]
    return any(fnmatch.fnmatchcase(name, each) or fnmatch.fnmatchcase(bare, each) for each in patterns)


def _network_type(network: Network) -> str:
    return "builtin" if network.Name in BUILT_IN_NETWORKS else "custom"


def _is_dangling(network: Network) -> bool:
    return _network_type(network) == "custom" and not network.Containers


def moment(text: str, now: float) -> float:
    """`--since` and `--until`: a duration ago (`"10m"`), seconds since 1970, or a date (RFC 3339, shortened at will).

    Returns seconds since 1970. Raises `ValueError`.
    """
    try:
        return now - values.duration(text) / 10**9
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return units.parse_moment(text)
