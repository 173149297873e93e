"""The Python half of the interop example: computes tea, and serves what the Rust half computed.

python examples/interop/quotes.py redis://localhost:6379/0 tea
cargo run -q -p cachekit-cache --example interop -- redis://localhost:6379/0
python examples/interop/quotes.py redis://localhost:6379/0 tea coffee
"""

from __future__ import annotations

import sys
from collections.abc import Set as AbstractSet

from cachekit import cache
from cachekit.backends import RedisBackend

QUANTITIES = {"tea": 3, "coffee": 2}


@cache(interop="quote", namespace="shop", backend=RedisBackend(sys.argv[1]), ttl=300)
def quote(article: str, quantity: int = 1, tags: AbstractSet[str] = frozenset()) -> dict[str, object]:
    return {"article": article, "total": quantity * 2.5, "by": "python"}


for article in sys.argv[2:]:
    found = quote(article, QUANTITIES[article], {"hot", "new"})
    print(f"{article}: {found['total']} by {found['by']}")
