"""Self-made certificates for a server on the loopback interface."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: the authority that clients trust, and the server's certificate and key."""

    authority: Path
    certificate: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))


def issue(folder: Path) -> Certificates:
    """A new authority and a certificate of its for ``localhost``, ``127.0.0.1`` and this machine's name."""
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1", gethostname())
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority.cert_pem.write_to_path(str(made.authority))
    server.cert_chain_pems[0].write_to_path(str(made.certificate))
    server.private_key_pem.write_to_path(str(made.key))
    return made
