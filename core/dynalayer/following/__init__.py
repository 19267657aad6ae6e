"""Following a layer: every event of every partition, at least once, to consumers whose positions the log keeps."""

from __future__ import annotations

from dynalayer.following.consumers import Consumer, ConsumerPosition
from dynalayer.following.feed import Feed
from dynalayer.following.followers import Followers

__all__ = ["Consumer", "ConsumerPosition", "Feed", "Followers"]
