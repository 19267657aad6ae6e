"""The rules of the protocol, each of which can be switched off: what comes of that, and in how many steps."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RULES", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        name: Its name.
        what: What it demands.
        part: The part of the search in which its absence shows.
        steps: Steps of the shortest trace that then goes wrong.
    """

    name: str
    what: str
    part: str
    steps: int


RULES = {
    rule.name: rule
    for rule in (
        Rule("if-absent", "a record is put only where its slot is empty", "append", 6),
        Rule("tail", "the tail is the larger of the newest record and the folded version", "append", 14),
        Rule("nonce", "a slot found taken is compared with one's own nonce", "append", 5),
        Rule("stay", "a slot whose try may have arrived is not left until it is another's", "append", 7),
        Rule("unknown", "what may still arrive is not told as not written", "append", 4),
        Rule("floor", "an append takes effect only within the floor after its tail was read", "append", 14),
        Rule("cas", "the head moves by compare-and-set", "sync", 17),
        Rule("revision", "every move raises the head's revision", "sync", 17),
        Rule("one-write", "the snapshot moves with the head, in the same write", "sync", 7),
        Rule("marks-after-move", "records are given a ttl only once the head has moved past them", "sync", 8),
        Rule("pending-stays", "pending records have no ttl", "sync", 2),
        Rule("head-stays", "the head has no ttl", "sync", 10),
        Rule("sync-contiguous", "a sync folds the contiguous run alone", "sync", 8),
        Rule("own-move", "a head that it moved itself is recognised by a sync", "answers", 8),
        Rule("mark-condition", "a mark is made on condition of nonce and of being pending still", "read", 16),
        Rule("head-last", "a reader reads the head after the records", "read", 13),
        Rule("restart", "a reader starts over if the run ends below the head's version", "read", 13),
        Rule("read-contiguous", "a reader takes the contiguous run alone", "read", 6),
        Rule("compaction-begins", "a compaction replaces only what still begins the head's list", "compact", 12),
        Rule("vacuums", "a compaction tries again with its segment only if no vacuum has looked since", "vacuum", 11),
        Rule("fence", "a vacuum raises the head's revision before it discards", "vacuum", 9),
        Rule("list-first", "a vacuum lists the store before it raises the revision", "vacuum", 9),
        Rule("old-last", "a vacuum reads the list of old segments after it has raised the revision", "vacuum", 9),
        Rule("history-kept", "a vacuum leaves old segments within the history's time", "vacuum", 9),
        Rule("old-listed", "what a move replaces is listed as old in the same write", "vacuum", 9),
        Rule("gone-restart", "a reader starts over if a segment is gone and the head has moved", "vacuum", 13),
        Rule("fresh-name", "each segment is written under a fresh name", "names", 15),
        Rule("durable", "a segment is durable before its ref is returned", "names", 7),
        Rule("asof-head-first", "an as-of reader reads the head before the list of old segments", "asof", 10),
        Rule("asof-again", "an as-of reader leaves out what is gone, and looks again", "asof", 15),
        Rule("asof-contiguous", "an as-of reader takes records only without a gap", "asof-records", 13),
        Rule(
            "asof-moved", "an as-of reader starts over if records are gone and the head has moved", "asof-records", 13
        ),
        Rule("asof-crossed", "an as-of reader takes no records across a committed reset", "reset-past", 16),
        Rule("reset-tail-first", "a reset notes the tail before it scans", "reset", 10),
        Rule("reset-strong", "a reset scans with strong reads", "reset", 10),
        Rule("reset-refold", "a reset folds the records above the noted tail again on top", "reset", 10),
        Rule("reset-again", "a reset that the head has passed appends another RESET", "reset", 23),
        Rule("reset-floor", "a reset commits only while all records above the noted tail are there", "reset", 17),
        Rule("reset-restart", "a reader starts over where a reset has replaced what it folded", "reset-read", 11),
        Rule("head-reset", "the head names the last reset; a RESET record in the run is not enough", "reset-read", 11),
        Rule("takeover-first", "a takeover is refused once an event was folded", "takeover", 11),
    )
}
