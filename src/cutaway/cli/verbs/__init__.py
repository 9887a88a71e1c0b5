"""Every verb of the command line, in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.cli.here import enter, xray
from cutaway.cli.verbs import (
    completion,
    cp,
    df,
    engine,
    exec,
    history,
    images,
    inspect,
    learn,
    life,
    login,
    logs,
    network,
    prune,
    ps,
    pull,
    push,
    run,
    snapshots,
    system,
    update,
    volume,
    watch,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cutaway.cli.verb import Verb

VERBS: tuple[Verb, ...] = (
    run.run, run.create,
    life.start, life.stop, life.restart, life.kill, life.rm, life.pause, life.unpause, life.wait, life.rename,
    life.attach, exec.exec, logs.logs, ps.ps, cp.cp, update.update,
    watch.top, watch.stats, watch.port, watch.diff, snapshots.commit, snapshots.export,
    inspect.inspect, inspect.container_inspect, inspect.image_inspect, inspect.network_inspect, inspect.volume_inspect,
    images.images, history.history, images.import_, images.load, images.save, images.tag, images.rmi,
    pull.pull, push.push, login.login, login.logout,
    network.ls, network.create, network.rm, network.connect, network.disconnect, prune.networks,
    volume.ls, volume.create, volume.rm, prune.volumes,
    system.version, system.info, df.df, prune.containers, prune.images, prune.system,
    engine.start, engine.stop, engine.status, engine.logs,
    learn.learn, xray.xray, enter.enter,
    completion.completion, completion.complete,
)  # fmt: skip

NOUNS = {
    "container": "Manage containers",
    "engine": "Manage the engine's own process",
    "image": "Manage images",
    "network": "Manage networks",
    "system": "Look at the engine and the host",
    "volume": "Manage volumes",
}
COMMON = ("run", "exec", "ps", "logs", "images")
"""What help shows first."""

_BY_PATH = {path: verb for verb in VERBS for path in verb.paths}


def find(words: Sequence[str]) -> tuple[Verb | None, list[str]]:
    """The verb that the first words name, and the words after them."""
    for length in (2, 1):
        verb = _BY_PATH.get(" ".join(words[:length]))
        if verb and len(words) >= length:
            return verb, list(words[length:])
    return None, list(words)


def names_after(words: Sequence[str]) -> list[str]:
    """The words that can follow none, or a noun."""
    if words:
        return [path.partition(" ")[2] for path in _BY_PATH if path.startswith(f"{words[0]} ")]
    return sorted({path.partition(" ")[0] for path in _BY_PATH if not path.startswith("_")})
