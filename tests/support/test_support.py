"""The fixtures do what they say: a fault that does not happen would make every test of it empty."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cachekit_server import CachekitServer
from tests.support.memcached_server import MemcachedServer
from tests.support.process import ServerMissingError, program, wait_until
from tests.support.proxy import Fault, FaultProxy
from tests.support.redis_servers import RedisCluster, RedisSentinel, RedisServer
from tests.support.resp import RespClient, RespError


def test_a_missing_server_names_the_remedy() -> None:
    with pytest.raises(ServerMissingError, match="apt-get install some-package"):
        program("no-such-program", "some-package")


def test_the_shared_redis_is_empty(redis_server: RedisServer) -> None:
    assert redis_server.keys() == []
    with redis_server.client() as client:
        client.call("SET", "left", "over")
    assert redis_server.keys() == ["left"]


def test_what_one_test_left_is_gone_in_the_next(redis_server: RedisServer) -> None:
    assert redis_server.keys() == []


def test_commands_are_counted(redis_server: RedisServer) -> None:
    before = redis_server.commands_processed("get")
    with redis_server.client() as client:
        client.call("GET", "a")
    assert redis_server.commands_processed("get") == before + 1


def test_a_frozen_redis_accepts_and_never_answers(own_redis: RedisServer) -> None:
    own_redis.freeze()
    with RespClient(own_redis.address, timeout=0.2) as client, pytest.raises(OSError, match="timed out"):
        client.call("PING")
    own_redis.thaw()
    with own_redis.client() as client:
        assert client.call("PING") == b"PONG"


def test_a_killed_redis_refuses_and_comes_back_on_its_port(own_redis: RedisServer) -> None:
    own_redis.kill()
    with pytest.raises(ConnectionRefusedError):
        own_redis.client()
    own_redis.start()
    with own_redis.client() as client:
        assert client.call("PING") == b"PONG"


def test_a_password_is_asked_for(redis_password: RedisServer) -> None:
    with RespClient(redis_password.address) as client, pytest.raises(RespError, match="NOAUTH"):
        client.call("PING")
    with redis_password.client() as client:
        assert client.call("PING") == b"PONG"


def test_tls_is_spoken(redis_tls: RedisServer) -> None:
    with redis_tls.client() as client:
        assert client.call("PING") == b"PONG"
    assert redis_tls.url.startswith("rediss://")


def test_a_unix_socket_is_served(redis_unix: RedisServer) -> None:
    assert redis_unix.socket_path is not None
    with RespClient(redis_unix.socket_path) as client:
        assert client.call("PING") == b"PONG"


def test_the_cluster_sends_keys_to_their_nodes(redis_cluster: RedisCluster) -> None:
    with redis_cluster.nodes[0].client() as client, pytest.raises(RespError, match="MOVED 12182"):
        client.call("SET", "foo", "1")
    with redis_cluster.nodes[2].client() as client:
        assert client.call("SET", "foo", "1") == b"OK"


@pytest.mark.slow
def test_the_sentinel_promotes_the_replica(redis_sentinel: RedisSentinel) -> None:
    assert redis_sentinel.master_port() == redis_sentinel.master.port
    redis_sentinel.master.kill()
    wait_until(
        "the replica is the master",
        lambda: redis_sentinel.master_port() == redis_sentinel.replica.port,
        limit=60.0,
    )


def test_memcached_answers(memcached_server: MemcachedServer) -> None:
    assert memcached_server.running
    memcached_server.flush()


def test_the_proxy_passes_everything_at_first(fault_proxy: FaultProxy) -> None:
    with RespClient(fault_proxy.address) as client:
        assert client.call("PING") == b"PONG"


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.RESET])
def test_a_cut_reply_ends_the_connection(fault_proxy: FaultProxy, fault: Fault) -> None:
    fault_proxy.fault = fault
    with RespClient(fault_proxy.address) as client, pytest.raises(ConnectionError):
        client.call("PING")


def test_garbage_is_no_reply(fault_proxy: FaultProxy) -> None:
    fault_proxy.fault = Fault.GARBAGE
    with RespClient(fault_proxy.address, timeout=0.5) as client, pytest.raises((RespError, OSError, ValueError)):
        client.call("ECHO", "x" * 100)


def test_a_black_hole_swallows(fault_proxy: FaultProxy) -> None:
    fault_proxy.fault = Fault.BLACK_HOLE
    with RespClient(fault_proxy.address, timeout=0.2) as client, pytest.raises(OSError, match="timed out"):
        client.call("PING")


def test_a_delay_delays(fault_proxy: FaultProxy) -> None:
    fault_proxy.fault = Fault.DELAY
    with RespClient(fault_proxy.address) as client:
        started = time.monotonic()
        client.call("PING")
    assert time.monotonic() - started >= fault_proxy.delay


def test_a_refusing_proxy_refuses_until_it_accepts(fault_proxy: FaultProxy) -> None:
    fault_proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        RespClient(fault_proxy.address)
    fault_proxy.accept()
    with RespClient(fault_proxy.address) as client:
        assert client.call("PING") == b"PONG"


def test_a_factory_makes_several(redis_factory: Callable[..., RedisServer]) -> None:
    first, second = redis_factory(), redis_factory()
    assert first.port != second.port


def test_the_cachekit_server_keeps_entries_and_refuses_revoked_keys(tmp_path: Path) -> None:
    server = CachekitServer(tmp_path)
    server.start()
    try:
        put = ["-X", "PUT", "-H", "Content-Type: application/octet-stream", "--data-binary", "x"]
        assert curl(server, *put) == "200"
        assert server.stored_keys() == 1
        server.kill()
        server.start()
        assert curl(server) == "200"
        server.revoke_key(server.key)
        wait_until("the key is refused", lambda: curl(server) == "401")
    finally:
        server.stop()


def curl(server: CachekitServer, *arguments: str) -> str:
    """The status with which the server answers."""
    command = ["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "--cacert", str(server.authority)]
    command += ["-H", f"Authorization: Bearer {server.key}", *arguments, f"{server.url}/v1/cache/a"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
