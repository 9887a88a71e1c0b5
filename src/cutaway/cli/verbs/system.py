"""`version` and `info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cutaway.cli import gotemplate
from cutaway.cli.gotemplate import TemplateError
from cutaway.cli.verb import verb
from cutaway.cli.verbs.common import INSPECT_FORMAT
from cutaway.engine import units
from cutaway.engine.errors import InvalidArgument
from cutaway.engine.model import SystemInfo, Version

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session


class Both(msgspec.Struct):
    """The command and the engine it talks to: here one and the same program."""

    Client: Version
    Server: Version


@verb(
    "version",
    usage="[OPTIONS]",
    summary="Print the versions of everything involved",
    options=[INSPECT_FORMAT],
    arguments=(0, 0),
)
async def version(session: Session, parsed: Parsed) -> None:
    found = await session.engine.version()
    await _show(session, parsed, Both(found, found), _version_text(found))


def _version_text(found: Version) -> str:
    lines = [
        "Engine:",
        f" Version:        {found.Version}",
        f" API version:    {found.ApiVersion} (minimum version {found.MinAPIVersion})",
        f" Python version: {found.PythonVersion}",
        f" Kernel version: {found.KernelVersion}",
        f" OS/Arch:        {found.Os}/{found.Arch}",
    ]
    for component in found.Components:
        lines += [f" {component.Name}:", f"  Version:       {component.Version}"]
    return "\n".join(lines)


@verb(
    "info",
    "system info",
    usage="[OPTIONS]",
    summary="Print what there is to know of the engine and this host",
    options=[INSPECT_FORMAT],
    arguments=(0, 0),
)
async def info(session: Session, parsed: Parsed) -> None:
    found = await session.engine.info()
    await _show(session, parsed, found, _info_text(found))
    for warning in found.Warnings:
        await session.complain(warning)


def _info_text(found: SystemInfo) -> str:
    lines = [
        f"Containers: {found.Containers}",
        f" Running: {found.ContainersRunning}",
        f" Paused: {found.ContainersPaused}",
        f" Stopped: {found.ContainersStopped}",
        f"Images: {found.Images}",
        f"Server Version: {found.ServerVersion}",
        f"Storage Driver: {found.Driver}",
        *(f" {name}: {value}" for name, value in found.DriverStatus),
        f"Logging Driver: {found.LoggingDriver}",
        f"Cgroup Driver: {found.CgroupDriver}",
        f"Cgroup Version: {found.CgroupVersion}",
        "Plugins:",
        *(f" {kind}: {' '.join(names or [])}" for kind, names in found.Plugins.items()),
        "Security Options:",
        *(f" {option.removeprefix('name=')}" for option in found.SecurityOptions),
        f"Kernel Version: {found.KernelVersion}",
        f"Operating System: {found.OperatingSystem}",
        f"OSType: {found.OSType}",
        f"Architecture: {found.Architecture}",
        f"CPUs: {found.NCPU}",
        f"Total Memory: {units.binary_size(found.MemTotal)}",
        f"Name: {found.Name}",
        f"ID: {found.ID}",
        f"Root Dir: {found.DockerRootDir}",
        f"Live Restore Enabled: {str(found.LiveRestoreEnabled).lower()}",
    ]
    return "\n".join(lines)


async def _show(session: Session, parsed: Parsed, value: Any, text: str) -> None:
    format = parsed.options.get("format", "")
    if format == "json":
        text = msgspec.json.encode(value).decode()
    elif format:
        try:
            text = gotemplate.render(gotemplate.parse(format), value)
        except TemplateError as problem:
            raise InvalidArgument(f"template parsing error: {problem}") from None
    await session.print(text)
