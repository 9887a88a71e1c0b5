"""Work in a thread of its own, beside the event loop: whatever waits for a disk, a network, or another process.

To Linux a thread is a process that shares this and that with others (`clone(2)`). What these do not share is the umask,
and, where it is asked for, the mounts: what such a thread mounts only it sees, and it is gone when the thread ends.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from cutaway.kernel.mounts import MS_REC, MS_SLAVE, mount
from cutaway.kernel.namespaces import CLONE_FS, CLONE_NEWNS, unshare

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


async def beside(work: Callable[[int], Result], *, own_mounts: bool = False) -> Result:
    """Returns what `work` returns and raises what it raises.

    `work` is given a descriptor that becomes readable when nobody waits for the result any more; even then this returns
    only once `work` has ended, so that what the caller holds for it may be let go.
    """
    abandoned = os.eventfd(0)
    done: Future[Result] = Future()
    done.set_running_or_notify_cancel()
    run = copy_context().run  # who watches the caller watches the thread
    Thread(target=run, args=(_run, work, abandoned, own_mounts, done), name="beside", daemon=True).start()
    waiting = asyncio.wrap_future(done)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        os.eventfd_write(abandoned, 1)
        await asyncio.wait({waiting})
        waiting.exception()
        raise
    finally:
        os.close(abandoned)


def _run(work: Callable[[int], Result], abandoned: int, own_mounts: bool, done: Future[Result]) -> None:
    try:
        unshare(CLONE_FS)
        if own_mounts:
            unshare(CLONE_NEWNS)
            mount("", "/", flags=MS_REC | MS_SLAVE)
        result = work(abandoned)
    except BaseException as error:
        done.set_exception(error)
    else:
        done.set_result(result)
