"""Lists say what Docker's say: which things are in them, how each is worded, how columns stand."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from cutaway.cli.verbs.ps import LISTING, Row
from cutaway.engine import filters, summary, units
from cutaway.engine.errors import InvalidArgument, NotFound
from cutaway.engine.model import (
    NEVER,
    Config,
    Container,
    EndpointSettings,
    ImageSummary,
    MountPoint,
    Network,
    NetworkSettings,
    PortBinding,
    State,
    Volume,
)

NOW = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, 0))


def at(seconds_ago: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime(NOW - seconds_ago))


def container(name: str = "web", created: float = 240, **state: Any) -> Container:
    bindings = {
        "80/tcp": [PortBinding(HostIp="0.0.0.0", HostPort="8080")],
        "9000/udp": [PortBinding(HostIp="127.0.0.1", HostPort="9000")],
        "9001/udp": [PortBinding(HostIp="127.0.0.1", HostPort="9001")],
        "443/tcp": None,
    }
    return Container(
        Id=(name.encode().hex() + "0" * 64)[:64],
        Created=at(created),
        Name=f"/{name}",
        Path="sh",
        Args=["-c", 'echo "hi there"; sleep 1000'],
        Image="sha256:" + "1" * 64,
        Config=Config(Image="busybox", Labels={"tier": "front", "os": "linux"}),
        State=State(**(state or {"Status": "running", "Running": True, "StartedAt": at(180)})),
        Mounts=[
            MountPoint(Type="volume", Name="data", Source="/var/x", Destination="/data", Driver="local"),
            MountPoint(Type="bind", Source="/a/rather/long/path", Destination="/b"),
        ],
        NetworkSettings=NetworkSettings(Ports=bindings, Networks={"bridge": EndpointSettings(NetworkID="abc")}),
    )


def shown(containers: Sequence[Container], format: str = "", *, cut: bool = True) -> str:
    return LISTING.render([Row(each, NOW, cut) for each in containers], format)


def test_a_table_has_dockers_columns() -> None:
    header, row, _ = shown([container()]).split("\n")
    assert header.split("   ")[0] == "CONTAINER ID"
    cells = [row[header.index(title) :].split("   ")[0] for title in ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED")]
    assert cells == ["776562000000", "busybox", '"sh -c \'echo \\"hi the…"', "4 minutes ago"]
    assert row[header.index("STATUS") :].startswith("Up 3 minutes   443/tcp, 127.0.0.1:9000-9001->9000-9001/udp, ")
    assert row.endswith("0.0.0.0:8080->80/tcp   web")


def test_an_empty_table_has_its_header() -> None:
    assert shown([]) == "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"


def test_a_template_gives_a_line_per_container() -> None:
    template = r'{{.Names}}\t{{.Label "tier"}} {{.State}} {{.LocalVolumes}} {{.Mounts}} {{upper .Networks}}'
    assert shown([container()], template) == "web\tfront running 1 data,/a/rather/long… BRIDGE\n"
    assert shown([container()], r'table {{.Names}}\t{{.Label "tier"}}') == "NAMES     tier\nweb       front\n"


def test_json_has_every_column() -> None:
    row = json.loads(shown([container()], "json"))
    assert row["Names"] == "web" and row["Labels"] == "os=linux,tier=front" and row["RunningFor"] == "4 minutes ago"
    assert set(row) == {
        "Command", "CreatedAt", "ID", "Image", "Labels", "LocalVolumes", "Mounts", "Names", "Networks", "Ports",
        "RunningFor", "Size", "State", "Status",
    }  # fmt: skip


@pytest.mark.parametrize("template", ["{{.Foo}}", "{{.Names", "table {{.Foo}}"])
def test_a_wrong_template_is_refused(template: str) -> None:
    with pytest.raises(InvalidArgument, match="template"):
        shown([container()], template)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ({"Status": "created"}, "Created"),
        ({"Status": "running", "Running": True, "StartedAt": at(5)}, "Up 5 seconds"),
        ({"Status": "paused", "Running": True, "Paused": True, "StartedAt": at(65)}, "Up About a minute (Paused)"),
        ({"Status": "exited", "ExitCode": 137, "FinishedAt": at(120)}, "Exited (137) 2 minutes ago"),
        ({"Status": "restarting", "Restarting": True, "ExitCode": 1, "FinishedAt": at(3)},
         "Restarting (1) 3 seconds ago"),
    ],
)  # fmt: skip
def test_a_state_in_words(state: dict[str, Any], status: str) -> None:
    assert summary.status(State(**state), NOW) == status


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (["name=we"], ["web"]),
        (["name=^b$"], []),
        (["name=^/?db$"], ["db"]),
        (["name=web", "name=db"], ["web", "db"]),
        (["id=776562"], ["web"]),
        (["status=exited"], ["db"]),
        (["exited=3"], ["db"]),
        (["exited=0"], []),
        (["label=tier"], ["web", "db"]),
        (["label=tier=front", "label=os=plan9"], []),
        (["ancestor=busybox"], ["web", "db"]),
        (["ancestor=debian"], []),
        (["before=web"], ["db"]),
        (["since=db"], ["web"]),
        (["volume=data"], ["web", "db"]),
        (["volume=/b"], ["web", "db"]),
        (["network=bridge"], ["web", "db"]),
        (["network=other"], []),
        (["publish=8080"], ["web", "db"]),
        (["publish=9000-9100/udp"], ["web", "db"]),
        (["publish=80"], []),
        (["expose=80"], ["web", "db"]),
        (["status=running", "name=db"], []),
    ],
)
def test_filters_of_containers(wanted: list[str], names: list[str]) -> None:
    everything = [container("web"), container("db", 300, Status="exited", ExitCode=3, FinishedAt=at(100))]
    busybox = {"sha256:" + "1" * 64}
    found = filters.containers(everything, filters.read(wanted), defaultdict(set, {"busybox": busybox}))
    assert [each.Name.removeprefix("/") for each in found] == names


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (["bad"], "bad format of filter"),
        (["foo=bar"], "Invalid filter 'foo'"),
        (["status=foo"], "Invalid filter 'status=foo'"),
        (["exited=x"], "'x' is not a whole number"),
    ],
)
def test_a_wrong_filter_is_refused(wanted: list[str], reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        filters.containers([container()], filters.read(wanted), {})


def test_a_filter_names_a_container_that_is_there() -> None:
    with pytest.raises(NotFound, match="No such container: nobody"):
        filters.containers([container()], {"before": ["nobody"]}, {})


def test_filters_of_images_networks_and_volumes() -> None:
    untagged = ImageSummary(Id="sha256:b", Created=20, Size=1)
    tagged = ImageSummary(Id="sha256:a", RepoTags=["busybox:1.35", "busybox:latest"], Created=10, Size=1)
    assert filters.images([untagged, tagged], {"dangling": ["true"]}) == [untagged]
    assert filters.images([untagged, tagged], {"reference": ["busy*:1.*"]}) == [tagged]
    assert filters.images([untagged, tagged], {"since": ["busybox"]}) == [untagged]
    assert filters.images([untagged, tagged], {"until": ["15"]}) == [tagged]
    networks = [Network(Id="1", Name="bridge"), Network(Id="2", Name="mine", Labels={"a": "b"})]
    assert [each.Name for each in filters.networks(networks, {"type": ["custom"]})] == ["mine"]
    assert [each.Name for each in filters.networks(networks, {"label": ["a=b"]})] == ["mine"]
    volumes = [Volume(Name="used", Mountpoint="/u"), Volume(Name="free", Mountpoint="/f")]
    assert [each.Name for each in filters.volumes(volumes, {"dangling": ["true"]}, ["used"])] == ["free"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1985569, "1.99MB"), (163577856, "164MB"), (1 << 40, "1.1TB"), (999999, "1000kB")],
)
def test_sizes(count: int, text: str) -> None:
    assert units.size(count) == text


def test_binary_sizes() -> None:
    assert [units.binary_size(count) for count in (692 << 10, 25275465728)] == ["692KiB", "23.54GiB"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (600, "10 minutes"),
        (3600, "About an hour"), (7200, "2 hours"), (47 * 3600, "47 hours"), (3 * 86400, "3 days"),
        (20 * 86400, "2 weeks"), (90 * 86400, "3 months"), (800 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


def test_moments() -> None:
    assert units.seconds_of("1970-01-01T00:00:01.5Z") == 1.5
    assert units.seconds_of("1970-01-01T02:00:00+02:00") == 0
    assert units.ago(NEVER, NOW) == "N/A"
    assert filters.moment("10m", NOW) == NOW - 600
    assert filters.moment("1234.5", NOW) == 1234.5
    assert filters.moment("1970-01-02T00:00:00Z", NOW) == 86400
    with pytest.raises(ValueError, match="neither a date"):
        filters.moment("yesterday", NOW)
