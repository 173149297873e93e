"""What may be wrong with a Redis, each as something that begins and ends."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.process import free_port
from tests.support.proxy import Fault, FaultProxy
from tests.support.redis_servers import RedisServer

Factory = Callable[..., RedisServer]


class Trouble:
    """A Redis in front of which, or in which, something goes wrong."""

    silent = False
    """Whether what is asked gets no answer at all, so that a caller learns by waiting."""
    writes_only = False
    """Whether reads still work."""
    counted = True
    """Whether the breaker counts it."""

    def __init__(self, factory: Factory) -> None:
        self.server = factory()

    @property
    def url(self) -> str:
        return self.server.url

    def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Called whatever the test did."""

    def command(self, *words: str | int) -> None:
        with self.server.client() as client:
            client.call(*words)


class Killed(Trouble):
    def begin(self) -> None:
        self.server.kill()

    def end(self) -> None:
        self.server.start()


class Frozen(Trouble):
    silent = True

    def begin(self) -> None:
        self.server.freeze()

    def end(self) -> None:
        self.server.thaw()

    close = end


class Password(Trouble):
    """The password is changed under the connections."""

    counted = False  # a pause of its own

    def __init__(self, factory: Factory) -> None:
        self.server = factory(password="correct-horse")

    def begin(self) -> None:
        self.command("CONFIG", "SET", "requirepass", "another")
        self.server.password = "another"
        self.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def end(self) -> None:
        self.command("CONFIG", "SET", "requirepass", "correct-horse")
        self.server.password = "correct-horse"


class NoPermission(Trouble):
    counted = False

    def begin(self) -> None:
        self.command("ACL", "SETUSER", "default", "-get", "-set", "-eval")

    def end(self) -> None:
        self.command("ACL", "SETUSER", "default", "+@all")


class Full(Trouble):
    writes_only = True

    def begin(self) -> None:
        self.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        self.command("CONFIG", "SET", "maxmemory", 1)

    def end(self) -> None:
        self.command("CONFIG", "SET", "maxmemory", 0)


class ReadOnly(Trouble):
    """The master becomes somebody's replica, as in a failover that the client missed."""

    writes_only = True

    def begin(self) -> None:
        self.command("REPLICAOF", "127.0.0.1", free_port())

    def end(self) -> None:
        self.command("REPLICAOF", "NO", "ONE")


class Proxied(Trouble):
    fault = Fault.NONE

    def __init__(self, factory: Factory) -> None:
        super().__init__(factory)
        self.proxy = FaultProxy(self.server.address)
        self.proxy.start()

    @property
    def url(self) -> str:
        return self.proxy.url

    def begin(self) -> None:
        self.proxy.fault = self.fault

    def end(self) -> None:
        self.proxy.fault = Fault.NONE

    def close(self) -> None:
        self.proxy.stop()


class Refused(Proxied):
    def begin(self) -> None:
        self.proxy.refuse()

    def end(self) -> None:
        self.proxy.accept()


class Garbage(Proxied):
    fault = Fault.GARBAGE
    silent = True  # random bytes may announce more than ever comes


class Cut(Proxied):
    fault = Fault.CUT


class Reset(Proxied):
    fault = Fault.RESET


class BlackHole(Proxied):
    fault = Fault.BLACK_HOLE
    silent = True


class Slow(Proxied):
    """Every reply comes after the budget is spent."""

    fault = Fault.DELAY
    silent = True

    def begin(self) -> None:
        self.proxy.delay = 5.0
        super().begin()


ALL: list[type[Trouble]] = [
    Killed,
    Frozen,
    Password,
    NoPermission,
    Full,
    ReadOnly,
    Refused,
    Garbage,
    Cut,
    Reset,
    BlackHole,
    Slow,
]
