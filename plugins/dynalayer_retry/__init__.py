"""What fails is tried again, where that can help: `storage=["retry:5", …]`."""

from dynalayer_retry.adapter import Retry, RetryAdapter

__all__ = ["Retry", "RetryAdapter"]
