"""Shards: keys of the index over which pending records are spread, as many as their writer was told.

Whoever looks for pending records has to look under every key that any writer used. So each number of shards is noted
in the layer's row before the first record is put under it, by those alone who append: a reader that was told another
number looks no further for it, and needs no right to write.
"""

from __future__ import annotations

from dynalayer.eventlog.dynamodb import rows
from dynalayer.eventlog.dynamodb.connection import Connection

__all__ = ["Shards"]


class Shards:
    """Numbers of shards that are noted.

    Args:
        connection: The table.
        table: The layer's table.
        own: The number that this log was told.
        meta: The layer's row.

    Attributes:
        own: The number that this log was told.
        noted: Numbers that the layer's writers are known to have used.

    Raises:
        DamagedRowError: The row does not say what it should.
    """

    def __init__(self, connection: Connection, table: str, own: int, meta: rows.Row) -> None:
        self._connection = connection
        self._key = rows.key_of(rows.layer_key(table), rows.META_KEY)
        self.own = own
        self.noted = rows.shards_of(meta)

    def look(self) -> None:
        """Take in what others have noted meanwhile.

        Raises:
            EventLogError: The row cannot be read.
            DamagedRowError: It does not say what it should.
        """
        self.noted |= rows.shards_of(self._connection.get(self._key))

    def note(self) -> None:
        """Note the own number, once: to be called before a record is put.

        Raises:
            EventLogError: It may not be noted; nothing may be put then.
        """
        if self.own not in self.noted:
            self._connection.call(
                "update_item",
                Key=self._key,
                UpdateExpression="ADD shards :shards",
                ExpressionAttributeValues={":shards": {"NS": [str(self.own)]}},
            )
            self.noted |= {self.own}
