"""From the options of `run` to what the engine is asked to create, and what is refused before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cutaway.engine.errors import InvalidArgument
from cutaway.engine.model import (
    BindOptions,
    CreateRequest,
    Device,
    DriverConfig,
    Mount,
    PortBinding,
    RestartPolicy,
    TmpfsOptions,
    Ulimit,
    VolumeOptions,
)
from cutaway.engine.options import CREATE, Caller, create_request, read
from cutaway.engine.options.mounts import parse_bind
from cutaway.engine.validation import validate

CALLER = Caller("/home/me", {"HOME": "/root", "TERM": "xterm"})


def request(caller: Caller = CALLER, **options: Any) -> CreateRequest:
    made = create_request(read(CREATE, options), "busybox", ["sh"], caller)
    validate(made)
    return made


def test_resources() -> None:
    host = request(
        memory="64m", memory_swap="-1", memory_reservation=32 << 20, memory_swappiness=5, cpus=".5", cpu_shares=512,
        cpuset_cpus="0", pids_limit=100, blkio_weight=500, shm_size="1g", oom_kill_disable=True,
        ulimit={"nofile": "1024:2048"},
    ).host_config  # fmt: skip
    assert (host.Memory, host.MemorySwap, host.MemoryReservation) == (64 << 20, -1, 32 << 20)
    assert (host.NanoCpus, host.CpuShares, host.CpusetCpus) == (500_000_000, 512, "0")
    assert (host.PidsLimit, host.BlkioWeight, host.ShmSize) == (100, 500, 1 << 30)
    assert (host.MemorySwappiness, host.OomKillDisable) == (5, True)
    assert host.Ulimits == [Ulimit(Name="nofile", Soft=1024, Hard=2048)]


def test_what_is_not_asked_for_is_dockers_default() -> None:
    made = request()
    assert (made.config.AttachStdin, made.config.AttachStdout, made.config.AttachStderr) == (False, True, True)
    assert made.config.Cmd == ["sh"] and made.config.Entrypoint is None and made.config.Env is None
    assert (made.host_config.NetworkMode, made.host_config.ShmSize) == ("default", 64 << 20)
    assert made.host_config.MemorySwappiness is None
    assert made.host_config.RestartPolicy == RestartPolicy(Name="no")


def test_streams_that_are_attached() -> None:
    assert request(interactive=True).config.AttachStdin
    assert request(interactive=True).config.StdinOnce
    only_output = request(interactive=True, attach=["STDOUT"]).config
    assert (only_output.AttachStdin, only_output.AttachStdout, only_output.AttachStderr) == (False, True, False)


def test_an_empty_entrypoint_takes_the_images_away() -> None:
    assert request(entrypoint="").config.Entrypoint == [""]


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ({"env": ["A=1", "HOME"]}, ["A=1", "HOME=/root"]),
        ({"env": ["GONE"]}, ["GONE"]),
        ({"env": {"A": "1"}}, ["A=1"]),
        ({"env": ["A=1", "A=2"]}, ["A=2"]),
    ],
)
def test_variables(options: dict[str, Any], environment: list[str]) -> None:
    assert request(**options).config.Env == environment


def test_env_file(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("\ufeff# comment\n\nA=from file\n  B=2\nTERM\nUNSET\n")
    made = request(Caller(str(tmp_path), CALLER.environment), env_file="env", env=["A=from option"])
    assert made.config.Env == ["A=from option", "B=2", "TERM=xterm"]
    (tmp_path / "env").write_text("bad name=1\n")
    with pytest.raises(InvalidArgument, match="variable 'bad name' contains whitespaces"):
        request(env_file=str(tmp_path / "env"))
    with pytest.raises(InvalidArgument, match="open /nowhere: no such file or directory"):
        request(env_file="/nowhere")


def test_labels_come_from_files_and_options(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("a=1\nb\n")
    made = request(label_file=str(tmp_path / "labels"), label=["a=2", "c"])
    assert made.config.Labels == {"a": "2", "b": "", "c": ""}


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", {"80/tcp": [("", "")]}),
        ("8080:80", {"80/tcp": [("", "8080")]}),
        ("127.0.0.1:8080:80/udp", {"80/udp": [("127.0.0.1", "8080")]}),
        ("127.0.0.1::80", {"80/tcp": [("127.0.0.1", "")]}),
        ("[::1]:8080:80", {"80/tcp": [("::1", "8080")]}),
        ("8000-8001:80-81", {"80/tcp": [("", "8000")], "81/tcp": [("", "8001")]}),
        ("8000-8010:80", {"80/tcp": [("", "8000-8010")]}),
        ("published=8080,target=80,protocol=udp", {"80/udp": [("", "8080")]}),
    ],
)
def test_published_ports(text: str, ports: dict[str, list[tuple[str, str]]]) -> None:
    made = request(publish=text)
    expected = {port: [PortBinding(HostIp=ip, HostPort=at) for ip, at in places] for port, places in ports.items()}
    assert made.host_config.PortBindings == expected
    assert made.config.ExposedPorts == {port: {} for port in ports}


def test_exposed_ports() -> None:
    assert request(expose=["53/udp", "3000-3001"]).config.ExposedPorts == {"53/udp": {}, "3000/tcp": {}, "3001/tcp": {}}


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        (
            "type=bind,src=/tmp,dst=/b,readonly,bind-propagation=rslave",
            Mount(
                Type="bind",
                Source="/tmp",
                Target="/b",
                ReadOnly=True,
                BindOptions=BindOptions(Propagation="rslave"),
            ),
        ),
        (
            "type=bind,source=/tmp,target=/b,bind-recursive=disabled",
            Mount(Type="bind", Source="/tmp", Target="/b", BindOptions=BindOptions(NonRecursive=True)),
        ),
        ("src=data,dst=/b", Mount(Type="volume", Source="data", Target="/b")),
        (
            "type=volume,dst=/b,volume-nocopy,volume-label=a=1,volume-opt=o=x,volume-driver=local",
            Mount(
                Type="volume",
                Target="/b",
                VolumeOptions=VolumeOptions(
                    NoCopy=True,
                    Labels={"a": "1"},
                    DriverConfig=DriverConfig(Name="local", Options={"o": "x"}),
                ),
            ),
        ),
        (
            "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777",
            Mount(Type="tmpfs", Target="/t", TmpfsOptions=TmpfsOptions(SizeBytes=1 << 20, Mode=0o1777)),
        ),
        ('type=bind,"src=/tmp",dst=/with space', Mount(Type="bind", Source="/tmp", Target="/with space")),
    ],
)
def test_mounts(text: str, mount: Mount) -> None:
    assert request(mount=text).host_config.Mounts == [mount]


def test_volumes() -> None:
    made = request(volume=["/tmp:/a:ro", "data:/b", "./here:/c", "/d"])
    assert made.host_config.Binds == ["/tmp:/a:ro", "data:/b", "/home/me/here:/c"]
    assert made.config.Volumes == {"/d": {}}


def test_what_a_bind_means() -> None:
    bind = BindOptions(Propagation="rshared", CreateMountpoint=True)
    assert parse_bind("/a:/b:ro,rshared") == Mount(
        Type="bind", Source="/a", Target="/b", ReadOnly=True, BindOptions=bind
    )
    volume = VolumeOptions(NoCopy=True)
    assert parse_bind("data:/b:nocopy") == Mount(Type="volume", Source="data", Target="/b", VolumeOptions=volume)


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("/dev/null", Device(PathOnHost="/dev/null", PathInContainer="/dev/null")),
        ("/dev/null:r", Device(PathOnHost="/dev/null", PathInContainer="/dev/null", CgroupPermissions="r")),
        ("/dev/null:/dev/x:rw", Device(PathOnHost="/dev/null", PathInContainer="/dev/x", CgroupPermissions="rw")),
    ],
)
def test_devices(text: str, device: Device) -> None:
    assert request(device=text).host_config.Devices == [device]


def test_networks() -> None:
    made = request(network=["name=web,alias=www,ip=10.1.2.3", "back"], network_alias=["w2"])
    assert made.host_config.NetworkMode == "web"
    first = made.networking.EndpointsConfig["web"]
    assert first.Aliases == ["www", "w2"] and first.IPAMConfig and first.IPAMConfig.IPv4Address == "10.1.2.3"
    assert list(made.networking.EndpointsConfig) == ["web", "back"]
    assert request(net="host").host_config.NetworkMode == "host"


def test_security_options(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text('{ "defaultAction": "SCMP_ACT_ALLOW" }')
    made = request(
        Caller(str(tmp_path), {}), security_opt=["no-new-privileges", "seccomp=profile.json", "label:disable"]
    )
    expected = ["no-new-privileges=true", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}', "label=disable"]
    assert made.host_config.SecurityOpt == expected


def test_a_directory_in_the_place_of_an_image() -> None:
    made = create_request(read(CREATE, {"rootfs": "tree"}), "", ["sh"], CALLER)
    assert (made.config.Image, made.host_config.Rootfs) == ("", "/home/me/tree")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"memory": "10q"}, 'invalid argument "10q" for "-m, --memory" flag: invalid size: \'10q\''),
        ({"memory": "1m"}, "Minimum memory limit allowed is 6MB"),
        ({"memory": "10m", "memory_swap": "9m"}, "Minimum memoryswap limit should be larger than memory limit"),
        ({"memory_swap": "64m"}, "You should always set the Memory limit when using Memoryswap limit"),
        ({"memory": "10m", "memory_reservation": "20m"}, "can not be less than memory reservation limit"),
        ({"memory_swappiness": 300}, "Valid memory swappiness range is 0-100"),
        ({"cpus": "x"}, "failed to parse x as a rational number"),
        ({"cpus": 5000}, "Range of CPUs is from 0.01 to"),
        ({"cpus": 1, "cpu_period": 10000}, "Nano CPUs and CPU Period cannot both be set"),
        ({"cpu_period": 10}, "CPU cfs period can not be less than 1ms"),
        ({"cpuset_cpus": "7000"}, "Requested CPUs are not available - requested 7000"),
        ({"cpuset_cpus": "0-99999999999"}, "Invalid value 0-99999999999 for cpuset"),
        ({"blkio_weight": 5}, "Range of blkio weight is from 10 to 1000"),
        ({"publish": "abc"}, "invalid containerPort: abc"),
        ({"publish": "70000:80"}, "invalid hostPort: 70000"),
        ({"publish": "1.2.3:80:80"}, "invalid IP address: 1.2.3"),
        ({"publish": "80:80/foo"}, "invalid proto: foo"),
        ({"publish": "80-81:90-95"}, "invalid ranges specified for container and host Ports: 90-95 and 80-81"),
        ({"expose": "abc"}, "invalid range format for --expose: abc"),
        ({"volume": "a:b:c:d"}, "invalid volume specification: 'a:b:c:d'"),
        ({"volume": "/tmp:/"}, "destination can't be '/'"),
        ({"volume": "x/y:/z"}, '"x/y" includes invalid characters for a local volume name'),
        ({"volume": "/tmp:relative"}, "mount path must be absolute"),
        ({"volume": "/tmp:/a:foo"}, "invalid mode: foo"),
        ({"volume": ["/tmp:/a", "/etc:/a/"]}, "Duplicate mount point: /a"),
        ({"mount": "type=foo,dst=/x"}, "mount type 'foo' is unknown"),
        ({"mount": "dst=/x,foo=bar"}, "unexpected key 'foo' in 'foo=bar'"),
        ({"mount": "type=bind,src=/nonexistent,dst=/x"}, "bind source path does not exist: /nonexistent"),
        ({"mount": "type=tmpfs,src=/a,dst=/x"}, "field Source must not be specified"),
        ({"mount": "type=tmpfs,dst=/x,volume-nocopy"}, "cannot mix 'volume-*' options with mount type 'tmpfs'"),
        ({"mount": "type=bind,src=/tmp"}, "target is required"),
        ({"tmpfs": "/x:foo"}, 'invalid tmpfs option ["foo"]'),
        ({"ulimit": "foo=1"}, "invalid ulimit type: foo"),
        ({"ulimit": "nofile=5:1"}, "ulimit soft limit must be less than or equal to hard limit: 5 > 1"),
        ({"restart": "foo"}, "invalid restart policy 'foo'"),
        ({"restart": "always:3"}, "maximum retry count can only be used with 'on-failure'"),
        ({"restart": "always", "rm": True}, "cannot specify both --restart and --rm"),
        ({"attach": "stdfoo"}, "invalid attach stream 'stdfoo'"),
        ({"name": "a b"}, "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        ({"network": "container:x", "publish": "80:80"}, "port publishing and the container type network mode"),
        ({"network": "container:x", "hostname": "h"}, "hostname and the network mode"),
        ({"network": ["a", "a"]}, 'network "a" is specified multiple times'),
        ({"network": ["host", "a"]}, "cannot attach both network mode 'host' and other networks"),
        ({"ip": "1.2.3.4"}, "user specified IP address is supported on user defined networks only"),
        ({"ip": "1.2.3"}, "invalid IPv4 address: 1.2.3"),
        ({"mac_address": "foo"}, "foo is not a valid mac address"),
        ({"dns": "foo"}, "IP address is not correctly formatted: foo"),
        ({"add_host": "foo"}, 'bad format for add-host: "foo"'),
        ({"env": ""}, "invalid environment variable: "),
        ({"label": "=x"}, "invalid label '=x': empty name"),
        ({"sysctl": "kernel.foo=1"}, "sysctl 'kernel.foo=1' is not allowed"),
        ({"sysctl": "net.ipv4.ip_forward=1", "network": "host"}, "is not allowed: the network is the host's"),
        ({"security_opt": "foo"}, 'Invalid --security-opt: "foo"'),
        ({"security_opt": "apparmor=mine"}, "only apparmor=unconfined is known here"),
        ({"security_opt": "seccomp=/etc/passwd"}, "seccomp profile /etc/passwd is not JSON"),
        ({"cap_add": "FOO"}, 'unknown capability: "CAP_FOO"'),
        ({"device": "null"}, "null is not an absolute path"),
        ({"device": "/dev/a:/dev/b:rw:x"}, "invalid device specification"),
        ({"ipc": "foo"}, "Invalid IPC mode: foo"),
        ({"pid": "foo"}, "--pid: invalid PID mode"),
        ({"uts": "container:x"}, "--uts: invalid UTS mode"),
        ({"workdir": "foo"}, "the working directory 'foo' is invalid, it needs to be an absolute path"),
        ({"log_driver": "foo"}, "logging driver 'foo' is unknown"),
        ({"log_opt": "foo=1"}, "unknown log opt 'foo'"),
        ({"log_driver": "none", "log_opt": "max-size=1m"}, "invalid logging opts for driver none"),
        ({"oom_score_adj": 2000}, "range for oom score adj is [-1000, 1000]"),
        ({"memry": "1g"}, "unknown option memry; did you mean memory?"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        request(**options)
    assert reason in str(refusal.value)
