"""The asyncio driver: what an awaited call does when L1 has no answer.

It only awaits and calls the function. Every decision is the engine's, through the native
``AsyncCall``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit._native import AsyncCall

HIT, WAIT, ALONE, LEAD, AGAIN = range(5)


async def drive(call: AsyncCall) -> Any:
    """Answers one call: from a flight that is joined, from the shared layer, or from the function."""
    try:
        while True:
            state, item = call.join()
            if state == WAIT:
                await item
                state, item = call.landed()
            if state == HIT:
                return item
            if state == LEAD:
                return await _lead(call)
            if state == ALONE:
                return await call.func(*call.args, **(call.kwargs or {}))
    finally:
        call.close()


async def _lead(call: AsyncCall) -> Any:
    while True:
        step = call.step()
        if step is True:
            return call.finish()
        if step is False:
            await _run(call)
        else:
            await step


async def _run(call: AsyncCall) -> None:
    token = call.enter()
    try:
        result = await call.func(*call.args, **(call.kwargs or {}))
    except Exception as error:
        call.raised(error)
    else:
        call.ran(result)
    finally:
        try:
            token.var.reset(token)
        except ValueError:
            pass  # collected, and so closed from outside its task: the task's context is gone with it


async def refresh(call: AsyncCall | None) -> None:
    """Refreshes an entry that is still served, unless another caller already fills its key."""
    if call is None:
        return
    try:
        if call.join()[0] == LEAD:
            await _lead(call)
    finally:
        call.close()


async def result_of(done: Any, take: Any) -> Any:
    """The result of an operation on the I/O thread: waits until it is there, then takes it."""
    await done
    return take()
