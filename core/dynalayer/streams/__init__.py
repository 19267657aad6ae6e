"""A table's stream taken into its layer: by a function in AWS Lambda, or by a process that follows it."""

from dynalayer.dead_letters import DeadLetter
from dynalayer.streams.following import Followed, follow
from dynalayer.streams.lambdas import LambdaHandler, handler

__all__ = ["DeadLetter", "Followed", "LambdaHandler", "follow", "handler"]
