"""The configuration's dataclasses, which load `dataclasses` when they are looked at: beside real ones."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import os
import pickle
import signal
import sys
import threading
from typing import Any, Callable

import pytest

from cachekit.config import late_dataclasses
from cachekit.config.late_dataclasses import LateDataclass


def both() -> tuple[Any, Any]:
    """Two classes of the same source, a late and a real one."""
    return _made(LateDataclass, late_dataclasses), _made(object, dataclasses)


def _made(base: Any, module: Any) -> Any:
    @module.dataclass(frozen=True)
    class Thing(base):  # type: ignore[misc]
        """A thing."""

        size: int = 1
        key: str | None = module.field(default=None, repr=False)
        tags: tuple[str, ...] = ()

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError(f"size={self.size}")

    return Thing


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of something that was done: the text of a value or of an exception."""

    text: str


def answer(action: Callable[[Any], object], cls: Any) -> Answer:
    try:
        return Answer(repr(action(cls)))
    except Exception as error:
        return Answer(f"{type(error).__name__}: {error}")


def assigned(cls: Any) -> None:
    cls().size = 3


def assigned_beside(cls: Any) -> None:
    cls().other = 3


def deleted(cls: Any) -> None:
    del cls().key


def extended(cls: Any) -> object:
    @dataclasses.dataclass(frozen=True)
    class More(cls):
        more: int = 5

    return More(1, "k", ("t",), 6), dataclasses.replace(More(), size=2), hash(More()) == hash(More())


def subclassed(cls: Any) -> object:
    class Plain(cls):
        pass

    made = Plain(2)
    return made, made == Plain(2), made == cls(2), dataclasses.asdict(made), inspect.signature(Plain)


ACTIONS: dict[str, Callable[[Any], object]] = {
    "values": lambda cls: vars(cls(2, tags=("a",))),
    "by position": lambda cls: vars(cls(2, "k", ("a",))),
    "validated": lambda cls: cls(-1),
    "class attributes": lambda cls: (cls.size, cls.key, cls.tags, cls.__doc__),
    "repr": lambda cls: cls(2, "hidden"),
    "equal": lambda cls: cls(2) == cls(2),
    "unequal": lambda cls: (cls(2) != cls(3), cls(2) == 2),
    "hash": lambda cls: len({cls(2), cls(2), cls(3)}),
    "unhashable": lambda cls: hash(cls(tags=[])),
    "ordered": lambda cls: cls() < cls(),
    "too many": lambda cls: cls(1, "k", (), 3),
    "unknown": lambda cls: cls(sise=3),
    "twice": lambda cls: cls(1, size=3),
    "assigned": assigned,
    "assigned beside": assigned_beside,
    "deleted": deleted,
    "is one": lambda cls: (dataclasses.is_dataclass(cls), dataclasses.is_dataclass(cls())),
    "fields": lambda cls: [(f.name, f.type, f.default, f.default_factory, f.repr) for f in dataclasses.fields(cls)],
    "fields of an instance": lambda cls: [field.name for field in dataclasses.fields(cls())],
    "replaced": lambda cls: dataclasses.replace(cls(2), key="k").key,
    "replaced by nothing known": lambda cls: dataclasses.replace(cls(2), other=1),
    "as dict": lambda cls: dataclasses.asdict(cls(2)),
    "copied": lambda cls: copy.copy(cls(2)) == copy.deepcopy(cls(2)) == cls(2),
    "signature": inspect.signature,
    "parameters": lambda cls: cls.__dataclass_params__,
    "match args": lambda cls: cls.__match_args__,
    "no such attribute": lambda cls: cls.other,
    "of an instance": lambda cls: cls().__signature__,
    "replaceable": lambda cls: hasattr(cls(), "__replace__"),
    "dataclass that extends it": extended,
    "class that extends it": subclassed,
}


def without_base(text: Answer) -> str:
    return text.text.replace("LateDataclass", "object")


@pytest.mark.parametrize("name", ACTIONS)
def test_it_does_what_a_dataclass_does(name: str) -> None:
    late, real = both()
    assert without_base(answer(ACTIONS[name], late)) == without_base(answer(ACTIONS[name], real))


@pytest.mark.parametrize("name", ACTIONS)
def test_it_still_does_after_it_was_looked_at(name: str) -> None:
    late, real = both()
    older = late(2)
    assert dataclasses.is_dataclass(older)
    assert older == late(2)
    assert without_base(answer(ACTIONS[name], late)) == without_base(answer(ACTIONS[name], real))


@pytest.mark.skipif(sys.version_info < (3, 13), reason="copy.replace is of 3.13")
def test_copy_replace() -> None:
    late, _ = both()
    assert copy.replace(late(2), key="k").key == "k"  # type: ignore[attr-defined]


def test_making_and_reading_leaves_it_late() -> None:
    late, _ = both()
    assert late(2, key="k").key == "k"
    assert pickle.dumps(vars(copy.copy(late(2)))) == pickle.dumps(vars(late(2)))
    assert "__dataclass_fields__" not in vars(late)
    assert dataclasses.is_dataclass(late)
    assert "__dataclass_fields__" in vars(late)


def test_the_base_is_no_dataclass() -> None:
    assert not dataclasses.is_dataclass(LateDataclass)


def test_threads_that_look_and_make_at_once() -> None:
    wrong: list[str] = []
    for _ in range(20):
        late, _ = both()
        start = threading.Barrier(8)

        def look(late: Any = late, start: threading.Barrier = start) -> None:
            start.wait()
            if not (late(2) == late(2) and late(3).size == 3 and repr(late()).endswith("Thing(size=1, tags=())")):
                wrong.append(repr(late()))

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_while_another_thread_looks() -> None:
    late, _ = both()
    looking, forked = threading.Event(), threading.Event()

    def look() -> None:
        with late_dataclasses._lock:
            looking.set()
            forked.wait()

    other = threading.Thread(target=look)
    other.start()
    looking.wait()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        os._exit(0 if late(2) == late(2) else 1)
    forked.set()
    other.join()
    assert os.waitpid(child, 0)[1] == 0
