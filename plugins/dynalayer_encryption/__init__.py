"""Segments are encrypted before a store sees them: `storage=[{"use": "encryption", "key": …}, …]`."""

from dynalayer_encryption.adapter import Encryption, EncryptionAdapter
from dynalayer_encryption.keys import Key

__all__ = ["Encryption", "EncryptionAdapter", "Key"]
