"""Real Redis servers on free loopback ports: plain, unix socket, TLS, password, cluster, sentinel."""

from __future__ import annotations

from pathlib import Path

from tests.support.process import ServerProcess, free_port, program, wait_until
from tests.support.resp import RespClient, RespError
from tests.support.tls import Certificates

HOST = "127.0.0.1"
PACKAGE = "redis-server"


class RedisServer(ServerProcess):
    """One redis-server without persistence; data lives in memory and is gone after ``kill``."""

    def __init__(
        self,
        folder: Path,
        *,
        password: str | None = None,
        unix_socket: bool = False,
        certificates: Certificates | None = None,
        extra: tuple[str, ...] = (),
    ) -> None:
        self.port = free_port()
        self.password = password
        self.certificates = certificates
        self.socket_path = str(folder / f"redis-{self.port}.sock") if unix_socket else None
        arguments = [program("redis-server", PACKAGE), "--bind", HOST, "--dir", str(folder), "--save", ""]
        arguments += ["--appendonly", "no", "--daemonize", "no"]
        if certificates is None:
            arguments += ["--port", str(self.port)]
        else:
            arguments += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            arguments += ["--tls-cert-file", str(certificates.certificate), "--tls-key-file", str(certificates.key)]
            arguments += ["--tls-ca-cert-file", str(certificates.authority)]
        if self.socket_path is not None:
            arguments += ["--unixsocket", self.socket_path]
        if password is not None:
            arguments += ["--requirepass", password]
        super().__init__([*arguments, *extra], self._pings, folder / f"redis-{self.port}.log")

    @property
    def address(self) -> tuple[str, int]:
        return (HOST, self.port)

    @property
    def url(self) -> str:
        """The URL under which cachekit reaches this server (by unix socket where it has one)."""
        if self.socket_path is not None:
            return f"unix://{self.socket_path}"
        scheme = "redis" if self.certificates is None else "rediss"
        login = "" if self.password is None else f":{self.password}@"
        return f"{scheme}://{login}{HOST}:{self.port}/0"

    def client(self) -> RespClient:
        """A connection of the test's own, past the code under test."""
        tls = None if self.certificates is None else self.certificates.client_context()
        return RespClient(self.address, password=self.password, tls=tls)

    def flush(self) -> None:
        with self.client() as client:
            client.call("FLUSHALL")

    def keys(self, pattern: str = "*") -> list[str]:
        """All keys that match, sorted."""
        with self.client() as client:
            found = client.call("KEYS", pattern)
        assert isinstance(found, list)
        return sorted(key.decode() for key in found if isinstance(key, bytes))

    def commands_processed(self, command: str) -> int:
        """How often the server has run ``command`` (lower case, as ``INFO commandstats`` names it)."""
        with self.client() as client:
            stats = client.text("INFO", "commandstats")
        for line in stats.splitlines():
            if line.startswith(f"cmdstat_{command}:"):
                return int(line.split("calls=", 1)[1].split(",", 1)[0])
        return 0

    def _pings(self) -> bool:
        try:
            with self.client() as client:
                return client.call("PING") == b"PONG"
        except (OSError, RespError):
            return False


class RedisCluster:
    """Three masters without replicas that share the 16384 slots."""

    def __init__(self, folder: Path) -> None:
        self.nodes: list[RedisServer] = []
        self._bus_ports = [free_port() for _ in range(3)]
        for index, bus_port in enumerate(self._bus_ports):
            home = folder / f"node-{index}"
            home.mkdir()
            extra = ("--cluster-enabled", "yes", "--cluster-port", str(bus_port), "--cluster-node-timeout", "1000")
            self.nodes.append(RedisServer(home, extra=extra))

    @property
    def url(self) -> str:
        """The comma-separated list of all nodes in one URL."""
        hosts = ",".join(f"{HOST}:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}"

    def start(self) -> None:
        try:
            for node in self.nodes:
                node.start()
            self._join()
        except BaseException:
            self.stop()
            raise

    def _join(self) -> None:
        bounds = [0, 5461, 10923, 16384]
        for index, node in enumerate(self.nodes):
            with node.client() as client:
                client.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
                client.call("CLUSTER", "ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
        with self.nodes[0].client() as client:
            for node, bus_port in zip(self.nodes[1:], self._bus_ports[1:]):
                client.call("CLUSTER", "MEET", HOST, node.port, bus_port)
        wait_until("the cluster agrees on its slots", lambda: all(self._agrees(node) for node in self.nodes))

    @staticmethod
    def _agrees(node: RedisServer) -> bool:
        with node.client() as client:
            info = client.text("CLUSTER", "INFO")
        return "cluster_state:ok" in info and "cluster_known_nodes:3" in info and "cluster_slots_ok:16384" in info

    def flush(self) -> None:
        for node in self.nodes:
            node.flush()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


class RedisSentinel:
    """A master, its replica and one sentinel (quorum 1) that watches them under the name ``main``."""

    service = "main"

    def __init__(self, folder: Path) -> None:
        self.master = RedisServer(_made(folder / "master"))
        self.replica = RedisServer(
            _made(folder / "replica"),
            extra=("--replicaof", f"{HOST} {self.master.port}", "--repl-diskless-sync-delay", "0"),
        )
        self.port = free_port()
        home = _made(folder / "sentinel")
        settings = home / "sentinel.conf"
        settings.write_text(
            f"bind {HOST}\nport {self.port}\ndir {home}\n"
            f"sentinel monitor {self.service} {HOST} {self.master.port} 1\n"
            f"sentinel down-after-milliseconds {self.service} 500\n"
            f"sentinel failover-timeout {self.service} 5000\n"
        )
        arguments = [program("redis-server", PACKAGE), str(settings), "--sentinel"]
        self.sentinel = ServerProcess(arguments, self._watches, home / "sentinel.log")

    @property
    def url(self) -> str:
        return f"redis+sentinel://{HOST}:{self.port}/{self.service}"

    def start(self) -> None:
        try:
            self.master.start()
            self.replica.start()
            wait_until("the replica follows its master", self._replicates)
            self.sentinel.start()
        except BaseException:
            self.stop()
            raise

    def master_port(self) -> int:
        """The port of the server that the sentinel takes for the master now."""
        with RespClient((HOST, self.port)) as client:
            reply = client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        assert isinstance(reply, list)
        assert isinstance(reply[1], bytes)
        return int(reply[1])

    def _replicates(self) -> bool:
        with self.replica.client() as client:
            return "master_link_status:up" in client.text("INFO", "replication")

    def _watches(self) -> bool:
        try:
            with RespClient((HOST, self.port)) as client:
                masters = client.text("INFO", "sentinel")
        except (OSError, RespError):
            return False
        return "status=ok" in masters and "slaves=1" in masters

    def stop(self) -> None:
        self.sentinel.stop()
        self.replica.stop()
        self.master.stop()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
