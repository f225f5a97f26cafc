"""Pseudonyms: keyed hashes (HMAC, RFC 2104) in place of names.

They stand for patients and images. Whoever has the key can compute the pseudonym of a name, and so find a patient
again. Without the key a pseudonym cannot be reversed, nor guessed by hashing all names there could be.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from eus_ray.errors import UserError

_NUM_KEY_BYTES = 32
_NUM_HEX_DIGITS = 16
"""64 bits, so that a million names do not collide."""


class Pseudonyms:
    """Pseudonyms under one key."""

    def __init__(self, key: bytes) -> None:
        """Take the key, as `read_key` returns it."""
        self._key = key

    def of(self, kind: str, name: str) -> str:
        """Return the pseudonym of a name: the same for the same key, kind and name.

        Args:
            kind: `patient` or `image`; the pseudonym begins with it.
            name: The name to hide.

        >>> Pseudonyms(bytes(32)).of("patient", "Doe, Jane")
        'patient-3243a084bf71cc4d'
        """
        digest = hmac.new(self._key, f"{kind}\0{name}".encode(), hashlib.sha256).hexdigest()
        return f"{kind}-{digest[:_NUM_HEX_DIGITS]}"


def read_key(path: Path) -> bytes:
    """Read the key in a file.

    If there is no such file, a new random key is written to it, for its owner alone.

    Raises:
        UserError: If others may read the file, or it holds no key.
    """
    try:
        if not path.exists():
            key = secrets.token_bytes(_NUM_KEY_BYTES)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{key.hex()}\n")
            return key
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise UserError(f"{path}: others may read this key; chmod 600 it")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise UserError(f"{path}: cannot be used as a key ({error.strerror})") from None
    except ValueError:
        raise UserError(
            f"{path}: is not a key of eus-ray (64 hexadecimal digits); name a new file to make one"
        ) from None
    if len(key) != _NUM_KEY_BYTES:
        raise UserError(f"{path}: holds {len(key)} bytes, and a key has {_NUM_KEY_BYTES}; name a new file to make one")
    return key
