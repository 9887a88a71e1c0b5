"""X-ray: what containers there are on a host and what each is made of, whoever started it.

It asks the kernel and nobody else: /proc, cgroup files, netlink. So it needs no engine, no socket of one, and none of
their files, and what it says of Docker's containers it says in the same words of a bare `unshare`. `namespaces(7)`

    from cutaway import xray

    view = xray.View()
    for container in view.host.containers:
        print(container.name, container.engine, container.pid)
    view.open(view.find("web"), xray.Measure())

`sight.Sight` reads every process once; `finding` tells containers from what it read, `engines` who started them. One
file for each thing there is to know of one: `processes`, `namespaces`, `cgroup`, `files`, `network`, `security`.
`model` is what comes out, the same for text (`text`), JSON and pictures (`drawing`).
"""

from cutaway.xray.files import Measure
from cutaway.xray.looking import NotFound, View

__all__ = ["Measure", "NotFound", "View"]
