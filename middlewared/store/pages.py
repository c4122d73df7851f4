"""Bytes of a database that no record uses, in a log from which nothing was ever deleted: all of them are zero.

SQLite takes new pages zeroed, fills a page from its end towards its head and, with secure_delete, wipes what it frees.
A table that only grows at its end never has a leaf or its root rebuilt out of other pages. So a byte in the gap
between such a page's cell pointers and its cells that is not zero was put there by something else: a disk, a cable, a
hand. Nothing is lost by it, but the next page may not be so lucky.

Not looked at: interior pages below the root, which are rebuilt when they split; freed blocks within a page; the ends
of overflow pages; and all of it after a cut, since rows were deleted then.

Source: sqlite.org/fileformat2.html, 1.3 (header), 1.6 (b-tree pages).
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path

_LEAVES = {0x0A: 8, 0x0D: 8}
_INTERIORS = {0x02: 12, 0x05: 12}
"""The size of a page's own header by its type: of an index or a table, leaf or interior."""
_PAGE = struct.Struct(">BHHH")  # type, first free block, cells, start of the cells' content
_HEADER_SIZE = 100
_RESERVED = slice(72, 92)
_PAGES_A_READ = 256


def stray_byte(path: Path, roots: Collection[int], superseded: Collection[int] = ()) -> str | None:
    """Where the database at `path` has a byte that nothing could have written; None if nowhere. Raises OSError.

    roots: the page numbers of the roots of its tables and indexes. superseded: the pages that are not read from here,
    because the -wal file has them.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER_SIZE)
        if any(header[_RESERVED]):
            return "the header's reserved bytes are not zero"
        page_size = int.from_bytes(header[16:18], "big")
        page_size = 65536 if page_size == 1 else page_size
        file.seek(0)
        number = 0
        while pages := file.read(page_size * _PAGES_A_READ):
            for offset in range(0, len(pages), page_size):
                number += 1
                page = pages[offset : offset + page_size]
                if number not in superseded and not _gap_is_zero(
                    page, _HEADER_SIZE if number == 1 else 0, number in roots
                ):
                    return f"the unused part of page {number} is not zero"
    return None


def _gap_is_zero(page: bytes, start: int, root: bool) -> bool:
    kind, _, cells, content = _PAGE.unpack_from(page, start)
    size = _LEAVES.get(kind) or (_INTERIORS.get(kind) if root else None)
    if size is None:
        return True
    gap = page[start + size + 2 * cells : content or len(page)]
    return gap.count(0) == len(gap)
