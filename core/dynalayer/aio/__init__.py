"""The layer for asyncio and trio: the same methods as coroutines, each in a thread of the layer's own."""
