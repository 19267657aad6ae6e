"""Two plugins of dynalayer: `plugins=["notify:syncs.jsonl"]` and `sync_strategy="chosen:eu;us"`."""

from dynalayer_notify.chosen import Chosen
from dynalayer_notify.notify import Notify

__all__ = ["Chosen", "Notify"]
