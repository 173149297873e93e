"""How far caching one DataFrame raises the peak of a process's memory; prints a line of JSON.

    table_memory.py MEGABYTES none|sink|DIRECTORY|redis://... [FUNCTION OPTIONS AS JSON]

{"frame": bytes of the frame, "peak": bytes above what there was with the frame alone, once it is stored,
 "hit_peak": the same once it has been read back, "stored": bytes in the sink}

The frame is of random numbers, which no codec makes much smaller. Of the environment, CACHEKIT_MAX_VALUE_SIZE and
CACHEKIT_MAX_CHUNK_SIZE_MB must allow for it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cachekit import cache
from cachekit.backends import FileBackend, RedisBackend
from cachekit.backends.file import FileBackendConfig
from cachekit.serializers import ArrowSerializer

COLUMNS = 8
# Seconds for a backend: it is memory that is measured.
PATIENCE = 60.0


def peak() -> int:
    """The most memory that this program has held so far, in bytes.

    Not `ru_maxrss`, which begins with that of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell")


def frame_of(megabytes: int) -> pd.DataFrame:
    """A frame of so many MiB, made without a second one's memory."""
    rows = (megabytes << 20) // (8 * COLUMNS)
    numbers = np.empty((COLUMNS, rows))
    generator = np.random.default_rng(7)
    for column in numbers:
        generator.random(out=column)
    return pd.DataFrame({f"c{place}": column for place, column in enumerate(numbers)}, copy=False)


def cached(where: str, megabytes: int, options: dict[str, Any], frame: Any) -> Any:
    """A cached function that gives the frame the first time, and fails then."""
    frames = [frame]
    if where == "none":
        backend: Any = None
    elif where.startswith("redis:"):
        backend = RedisBackend(where).with_timeout(PATIENCE)
    else:
        sizes = {"max_value_mb": 2 * megabytes, "max_size_mb": 4 * megabytes}
        backend = FileBackend(FileBackendConfig(cache_dir=where, **sizes)).with_timeout(PATIENCE)

    @cache(backend=backend, namespace="memory", ttl=60, timeout=False, **options)
    def table() -> Any:
        return frames.pop()

    return table


def main() -> None:
    megabytes, where = int(sys.argv[1]), sys.argv[2]
    options: dict[str, Any] = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    warm = pd.DataFrame({"a": np.arange(10.0)})
    pa.Table.from_pandas(warm).to_pandas()
    ArrowSerializer().serialize(warm)
    frame: Any = frame_of(megabytes)
    if options.pop("array", False):
        frame = frame.to_numpy(copy=False)
    held = peak()
    found: dict[str, Any] = {"frame": frame.size * 8}
    if where == "sink":
        with tempfile.TemporaryFile() as file:
            ArrowSerializer(**options).serialize_to_sink(frame, file)
            found.update(peak=peak() - held, stored=file.tell())
    else:
        table = cached(where, megabytes, options, frame)
        assert table() is frame
        found["peak"] = peak() - held
        hit = table()
        found["hit_peak"] = peak() - held
        assert len(hit) == len(frame)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
