"""Segments by columns, in Arrow: what adapters with the capability `columns` read and write.

A public module, though not a part of `import dynalayer`: it needs pyarrow, which comes with the extra
`dynalayer[parquet]`.
"""

from dynalayer.columns.contract import ID, ITEM, Columns
from dynalayer.columns.items import SegmentColumns, segment_of
from dynalayer.columns.newest import Newest

__all__ = ["ID", "ITEM", "Columns", "Newest", "SegmentColumns", "segment_of"]
