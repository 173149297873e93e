"""A backend over a DynamoDB table with the partition key ``k`` (string).

Give it a table of boto3, ``boto3.resource("dynamodb").Table("cache")``, and switch on the table's own
TTL for the attribute ``until``. DynamoDB removes ended items within days, not at once, so a read looks
at ``until`` itself.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Protocol

from cachekit import BackendError, BackendErrorType

# What DynamoDB takes as one item, less room for the key and the other attribute.
LARGEST = 400 * 1024 - 2048

_RETRIED = {
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalServerError",
}
_REFUSED = {"AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException"}


class Table(Protocol):
    """The part of boto3's Table that is used."""

    def get_item(self, **request: Any) -> dict[str, Any]: ...
    def put_item(self, **request: Any) -> dict[str, Any]: ...
    def delete_item(self, **request: Any) -> dict[str, Any]: ...


class DynamoDBBackend:
    """Entries in a DynamoDB table."""

    def __init__(self, table: Table, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._clock = clock

    def get(self, key: str) -> bytes | None:
        item = self._live(self._call("get", key, self._table.get_item, Key={"k": key}, ConsistentRead=True).get("Item"))
        # boto3 wraps bytes in a Binary object.
        return None if item is None else bytes(item["v"])

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        if len(value) > LARGEST:
            message = f"{len(value)} bytes are more than an item can hold ({LARGEST})"
            raise BackendError(message, BackendErrorType.PERMANENT, None, "set", key)
        item: dict[str, Any] = {"k": key, "v": value}
        if ttl is not None:
            item["until"] = int(self._clock() + ttl)
        self._call("set", key, self._table.put_item, Item=item)

    def delete(self, key: str) -> bool:
        answer = self._call("delete", key, self._table.delete_item, Key={"k": key}, ReturnValues="ALL_OLD")
        return self._live(answer.get("Attributes")) is not None

    def exists(self, key: str) -> bool:
        request = {"Key": {"k": key}, "ConsistentRead": True, "ProjectionExpression": "#u, k"}
        answer = self._call("exists", key, self._table.get_item, **request, ExpressionAttributeNames={"#u": "until"})
        return self._live(answer.get("Item")) is not None

    def health_check(self) -> tuple[bool, dict[str, Any]]:
        start = time.perf_counter()
        try:
            self.exists("health")
        except BackendError as error:
            return False, {"backend_type": "dynamodb", "latency_ms": -1.0, "error": str(error)}
        return True, {"backend_type": "dynamodb", "latency_ms": (time.perf_counter() - start) * 1e3}

    def _live(self, item: dict[str, Any] | None) -> dict[str, Any] | None:
        if item is None or ("until" in item and int(item["until"]) <= self._clock()):
            return None
        return item

    def _call(self, operation: str, key: str, method: Callable[..., dict[str, Any]], **request: Any) -> dict[str, Any]:
        try:
            return method(**request)
        except Exception as error:  # botocore makes its exception classes at run time
            code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
            if code in _REFUSED:
                kind = BackendErrorType.AUTHENTICATION
            elif code in _RETRIED or not code:  # without a code: the connection
                kind = BackendErrorType.TRANSIENT
            else:
                kind = BackendErrorType.PERMANENT
            raise BackendError(str(error), kind, error, operation, key) from error
