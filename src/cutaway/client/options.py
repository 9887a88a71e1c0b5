"""The options of `run`, `create` and `exec` by their Python names, for type checkers.

Values are written as on the command line, or as plain Python values: `memory="64m"` is `memory=64 << 20`, `env=["A=1"]`
is `env={"A": "1"}`; an option that may be repeated takes one value or several. The engine knows what they mean and
checks them. What each is for, `cutaway help run` says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TypedDict

Text = str | os.PathLike[str]
Texts = Text | Sequence[Text]
Numbers = int | str | Sequence[int | str]
Pairs = str | Sequence[str] | Mapping[str, str | int]


class RunOptions(TypedDict, total=False):
    """Of `run`, `stream` and `container`, whose containers are removed when they have ended."""

    add_host: Pairs
    annotation: Pairs
    blkio_weight: int
    cap_add: Texts
    cap_drop: Texts
    cgroup_parent: str
    cidfile: Text
    cpu_period: int
    cpu_quota: int
    cpu_shares: int
    cpus: float | str
    cpuset_cpus: str
    cpuset_mems: str
    device: Texts
    dns: Texts
    dns_option: Texts
    dns_search: Texts
    domainname: str
    entrypoint: str
    env: Pairs
    env_file: Texts
    expose: Numbers
    group_add: Numbers
    hostname: str
    init: bool
    ip: str
    ipc: str
    label: Pairs
    label_file: Texts
    log_driver: str
    log_opt: Pairs
    mac_address: str
    memory: int | str
    memory_reservation: int | str
    memory_swap: int | str
    memory_swappiness: int
    mount: Texts
    name: str
    network: Texts
    network_alias: Texts
    oom_kill_disable: bool
    oom_score_adj: int
    pid: str
    pids_limit: int
    platform: str
    privileged: bool
    proc_view: bool
    publish: Numbers
    publish_all: bool
    pull: str
    read_only: bool
    rootfs: Text
    security_opt: Texts
    shm_size: int | str
    stop_signal: str
    stop_timeout: int
    sysctl: Pairs
    tmpfs: Texts
    tty: bool
    ulimit: Pairs
    user: int | str
    uts: str
    volume: Texts
    workdir: Text


class CreateOptions(RunOptions, total=False):
    """Of `Engine.create`, whose containers last."""

    attach: Texts
    interactive: bool
    restart: str
    rm: bool


class ExecOptions(TypedDict, total=False):
    """Of `Container.exec` and `Container.stream`."""

    env: Pairs
    env_file: Texts
    privileged: bool
    user: int | str
    workdir: Text
