"""What a backend can fail with."""

from __future__ import annotations

from enum import Enum


class BackendErrorType(str, Enum):
    """What kind of failure it was, and so what to do about it."""

    TRANSIENT = "transient"
    """Worth another try: the connection broke, the server is busy or loading."""
    PERMANENT = "permanent"
    """Would fail again: the request itself is wrong."""
    TIMEOUT = "timeout"
    AUTHENTICATION = "authentication"
    UNKNOWN = "unknown"


_CODES = {
    BackendErrorType.TRANSIENT: "E010",
    BackendErrorType.PERMANENT: "E063",
    BackendErrorType.TIMEOUT: "E011",
    BackendErrorType.AUTHENTICATION: "E060",
    BackendErrorType.UNKNOWN: "E010",
}

_SHOWN_KEY = 60


class BackendError(Exception):
    """An operation of a backend failed. A cached function never raises it: it runs instead.

    `code` is stable: E010 connection, E011 timeout, E012 pool exhausted, E050 lock, E060
    authentication, E063 refused request.
    """

    def __init__(
        self,
        message: str,
        error_type: BackendErrorType | str = BackendErrorType.UNKNOWN,
        original_exception: BaseException | None = None,
        operation: str | None = None,
        key: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_type = BackendErrorType(error_type)
        self.original_exception = original_exception
        self.operation = operation
        self.key = key
        self.code = code or _CODES[self.error_type]
        if original_exception is not None:
            self.__cause__ = original_exception

    def __str__(self) -> str:
        text = self.message
        if self.operation is not None:
            text += f" (operation: {self.operation})"
        if self.key is not None:
            shown = self.key if len(self.key) <= _SHOWN_KEY else f"{self.key[:_SHOWN_KEY]}..."
            text += f" (key: {shown})"
        return text

    def __reduce__(self) -> tuple[type[BackendError], tuple[object, ...]]:
        return type(self)._rebuilt, (self.message, self.error_type.value, self.operation, self.key, self.code)  # type: ignore[return-value]

    @classmethod
    def _rebuilt(cls, message: str, error_type: str, operation: str | None, key: str | None, code: str) -> BackendError:
        error = cls.__new__(cls)
        BackendError.__init__(error, message, error_type, None, operation, key, code)
        return error

    @property
    def is_transient(self) -> bool:
        return self.error_type is BackendErrorType.TRANSIENT

    @property
    def is_permanent(self) -> bool:
        return self.error_type is BackendErrorType.PERMANENT

    @property
    def is_timeout(self) -> bool:
        return self.error_type is BackendErrorType.TIMEOUT

    @property
    def is_authentication(self) -> bool:
        return self.error_type is BackendErrorType.AUTHENTICATION


class CapabilityNotAvailableError(BackendError):
    """The backend cannot do what was asked of it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, BackendErrorType.PERMANENT)
