"""P13: AES-256-GCM of 100 KB, as `cryptography` does it."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benches.context import Context, ours
from benches.harness import Contender, Statement, interleave, medians
from benches.table import OURS, Budget, Line

KEY = "0123456789abcdef" * 4
BINDING = {"tenant": "default", "key": "key", "format": "msgpack", "compressed": True, "original_type": "msgpack"}


def p13(context: Context) -> list[Line]:
    data, nonce = os.urandom(100_000), bytes(12)
    cipher = AESGCM(bytes.fromhex(KEY))
    sealed = cipher.encrypt(nonce, data, b"key")
    theirs = {
        "encrypt": Statement("cryptography", "f(n, d, a)", {"f": cipher.encrypt, "n": nonce, "d": data, "a": b"key"}),
        "decrypt": Statement("cryptography", "f(n, d, a)", {"f": cipher.decrypt, "n": nonce, "d": sealed, "a": b"key"}),
    }

    def mine(work: str) -> Contender:
        from cachekit import _native

        keys = _native.Keychain(KEY, [])
        if work == "encrypt":
            return Statement(OURS, "f(b, d)", {"f": keys.seal, "b": BINDING, "d": data})
        own = keys.seal(BINDING, data)
        name = keys.fingerprint("default")
        return Statement(OURS, "f(b, d, n, False)", {"f": keys.open, "b": BINDING, "d": own, "n": name})

    lines: list[Line] = []
    for work, rival in theirs.items():
        contenders, missing = ours(lambda work=work: [mine(work)])
        samples = interleave([*contenders, rival], context.rounds)
        budget = Budget(1.1, "cryptography")
        lines.append(Line("P13", f"{work} 100 KB", "s", medians(samples), budget, missing=missing, samples=samples))
    return lines


MEASURES = {"P13": p13}
