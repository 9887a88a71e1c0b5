"""`--restart`: which containers are started again when they have ended, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.engine.containers import seconds_between

if TYPE_CHECKING:
    from cutaway.engine.containers import Container


def is_to_restart(container: Container) -> bool:
    """Whether the policy wants a container that has ended to run again; never one that a person stopped."""
    policy, state = container.seen.HostConfig.RestartPolicy, container.state
    if container.record.stopped:
        return False
    if policy.Name == "on-failure":
        tries_left = not policy.MaximumRetryCount or container.seen.RestartCount < policy.MaximumRetryCount
        return state.ExitCode != 0 and tries_left
    return policy.Name in ("always", "unless-stopped")


def is_to_start_with_engine(container: Container) -> bool:
    """Whether a container that does not run is to be started when an engine starts: the host may have gone down."""
    policy = container.seen.HostConfig.RestartPolicy.Name
    was_started = container.state.Status in ("exited", "restarting")
    return was_started and (policy == "always" or is_to_restart(container))


def delay(container: Container) -> float:
    """Seconds until the next start: longer with each short run, as before with a quiet one."""
    return container.restart_delay.after(seconds_between(container.state.StartedAt, container.state.FinishedAt))
