"""Syncs in line, within the `set()` that led to them: `background_runner="inline"`."""

from __future__ import annotations

from dynalayer import Job, hookimpl

__all__ = ["InlineRunner"]


class InlineRunner:
    """Runs each job at once, in the thread of its caller: what a layer without a runner does.

    It has a name, so that where a configuration says another runner it can be overruled.
    """

    name = "inline"

    @hookimpl
    def layer_runner(self, job: Job) -> bool:
        """Run the job."""
        job()
        return True
