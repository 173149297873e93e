"""Calls functions through the published package: a JSON line in says which, a JSON line out what came.

    published.py REDIS-URL [LIBRARIES]      (run with the published package's own interpreter)

In:  {"function": name, "options": {...}, "explicit": bool, "names": [...]}
Out: {"ran": [names of the cases that ran], "values": [reprs]}

LIBRARIES is a folder in which optional libraries are found that the environment has not.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import json
import sys
from typing import Any

# Behind all others: the package itself is the published one.
sys.path.extend(sys.argv[2:])

import exchanged

from cachekit import cache
from cachekit.backends.redis import RedisBackend

backend = RedisBackend(sys.argv[1])
made: dict[str, Any] = {}


def cached(request: dict[str, Any]) -> Any:
    name = json.dumps([request["function"], request["options"], request["explicit"]])
    if name not in made:
        options: dict[str, Any] = dict(request["options"])
        if request["explicit"]:
            options["backend"] = backend
        if "key" in options:
            options["key"] = getattr(builtins, options["key"])
        made[name] = cache(ttl=60, l1_enabled=False, **options)(exchanged.FUNCTIONS[request["function"]])
    return made[name]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    function = cached(request)

    async def all_of_them() -> list[Any]:
        return [await exchanged.call(function, name) for name in request["names"]]

    exchanged.ran.clear()
    if inspect.iscoroutinefunction(exchanged.FUNCTIONS[request["function"]]):
        values = loop.run_until_complete(all_of_them())
    else:
        values = [exchanged.call(function, name) for name in request["names"]]
    return {"ran": exchanged.ran, "values": [exchanged.shown(value) for value in values]}


# One for all requests: the package keeps connections that belong to it.
loop = asyncio.new_event_loop()
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
