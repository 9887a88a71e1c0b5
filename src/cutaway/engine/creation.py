"""A new container: what was asked for, completed by what the image says and by Docker's defaults."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from cutaway.engine.containers import Container, Record, new_id, now
from cutaway.engine.errors import CommandNotFound, InvalidArgument
from cutaway.engine.model import Container as Seen
from cutaway.engine.model import EndpointSettings, GraphDriver
from cutaway.engine.names import new_name
from cutaway.engine.signals import signal_number
from cutaway.engine.validation import validate
from cutaway.plan.files import MakeDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cutaway.engine.containers import Containers
    from cutaway.engine.model import Config, CreateRequest, HostConfig
    from cutaway.engine.networks import Networks
    from cutaway.engine.places import Places
    from cutaway.image.config import RunConfig
    from cutaway.image.store import Image
    from cutaway.plan.operation import Operation

_SHORT_ID = 12


def new_container(
    request: CreateRequest, image: Image | None, places: Places, containers: Containers, networks: Networks
) -> Container:
    """The container that a request describes, not yet kept anywhere. `image` is None where it has a `Rootfs` instead.

    Raises `Conflict` where its name is taken, `InvalidArgument`, `CommandNotFound`.
    """
    validate(request)
    container_id = new_id()
    config, host = request.config, request.host_config
    if image:
        _complete(config, image.config.run)
    command = [*(config.Entrypoint or ()), *(config.Cmd or ())]
    if not command and not host.Init:
        raise InvalidArgument("No command specified: name one after the image, which has none of its own")
    if command and not command[0]:
        raise CommandNotFound('exec: "": executable file not found in $PATH')
    if config.StopSignal:  # now perhaps the image's
        signal_number(config.StopSignal)
    config.Hostname = config.Hostname or _hostname(host, container_id)
    seen = Seen(
        Id=container_id,
        Created=now(),
        Path=command[0] if command else "",
        Args=command[1:],
        Image=image.id if image else "",
        Name=f"/{_name(request.name, containers)}",
        Config=config,
        HostConfig=host,
    )
    _place(seen, places, image)
    lower_dirs = list(image.lower_dirs) if image else []
    endpoints = _endpoints(request, networks)
    seen.NetworkSettings.Networks = dict(endpoints)
    return Container(Record(seen=seen, endpoints=endpoints, lower_dirs=lower_dirs))


def _endpoints(request: CreateRequest, networks: Networks) -> dict[str, EndpointSettings]:
    """What is asked for on each network, by its name. Raises `NotFound`."""
    mode = request.host_config.NetworkMode
    if mode == "host" or mode.startswith("container:"):
        return {}
    asked = request.networking.EndpointsConfig or {mode: EndpointSettings()}
    named = {networks.find(name).seen.Name: settings for name, settings in asked.items()}
    return {name: settings for name, settings in named.items() if name != "none"}


_PURPOSES = {
    "UpperDir": "The container's own layer: what it writes, and marks for what it deletes of the image.",
    "WorkDir": "Overlayfs prepares here what it then moves to the upper directory in one step.",
    "MergedDir": "Where layers and upper directory are seen as one: the container's root.",
}


def directory_operations(container: Container, places: Places) -> list[Operation]:
    """What makes the directories that last of a container: its layer and its log's place."""
    purpose = "What lasts of the container: its layer, its log, its files for /etc."
    operations: list[Operation] = [MakeDirectory(places.container(container.id), 0o710, purpose)]
    if not container.seen.HostConfig.Rootfs:
        layers = container.seen.GraphDriver.Data
        operations += [MakeDirectory(layers[name], purpose=purpose) for name, purpose in _PURPOSES.items()]
    return operations


def _complete(config: Config, image: RunConfig) -> None:
    """What the image says holds where the request says nothing; a new entrypoint discards the image's command."""
    if not config.Cmd and config.Entrypoint is None:
        config.Cmd = _words(image.cmd)
    if config.Entrypoint is None:
        config.Entrypoint = _words(image.entrypoint)
    if config.Entrypoint == [""]:
        config.Entrypoint = None
    config.Env = _merged_environment(image.env or [], config.Env or [])
    config.WorkingDir = config.WorkingDir or image.working_dir or ""
    config.User = config.User or image.user or ""
    config.StopSignal = config.StopSignal or image.stop_signal or ""
    config.Labels = {**(image.labels or {}), **config.Labels}
    config.ExposedPorts = _united(image.exposed_ports or None, config.ExposedPorts)
    config.Volumes = _united(image.volumes or None, config.Volumes)


def _words(command: list[str] | str | None) -> list[str] | None:
    return [command] if isinstance(command, str) else command


def _united(*sets: Mapping[str, Any] | None) -> dict[str, dict[str, str]] | None:
    """Docker writes a set as a mapping to empty objects."""
    return {name: {} for each in sets for name in each or ()} or None


def _merged_environment(below: list[str], above: list[str]) -> list[str]:
    named = {entry.partition("=")[0]: entry for entry in [*below, *above]}
    return list(named.values())


def _hostname(host: HostConfig, container_id: str) -> str:
    shares_hosts = host.UTSMode == "host" or host.NetworkMode == "host"
    return socket.gethostname() if shares_hosts else container_id[:_SHORT_ID]


def _name(wanted: str, containers: Containers) -> str:
    if not wanted:
        return new_name(containers.is_free)
    name = wanted.removeprefix("/")
    containers.check_free(name)
    return name


def _place(seen: Seen, places: Places, image: Image | None) -> None:
    """Where its files are; a container with a `Rootfs` has that directory itself as its root."""
    directory = places.container(seen.Id)
    if image is None:
        seen.GraphDriver = GraphDriver(Name="rootfs", Data={"MergedDir": os.path.abspath(seen.HostConfig.Rootfs)})
    else:
        seen.GraphDriver = GraphDriver(
            Data={
                "LowerDir": ":".join(image.lower_dirs),
                "UpperDir": f"{directory}/upper",
                "WorkDir": f"{directory}/work",
                "MergedDir": f"{directory}/merged",
            }
        )
    seen.ResolvConfPath, seen.HostnamePath = f"{directory}/resolv.conf", f"{directory}/hostname"
    seen.HostsPath = f"{directory}/hosts"
    if seen.HostConfig.LogConfig.Type != "none":
        seen.LogPath = f"{directory}/{seen.HostConfig.LogConfig.Type.removesuffix('-file')}.log"
