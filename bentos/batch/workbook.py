"""Excel workbook of one sheet, written row by row with the standard library (Office Open XML, ECMA-376)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import IO, Final
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from configs.errors import ChurnError

ROWS_MAX: Final = 1_048_576
"""Rows of a sheet, its header included."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_LINKS: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_XML: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
# Excel decodes _x0041_ in a text; an underscore that would begin such a sequence is written as one itself.
_ENCODED: Final = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)")
_NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_TEXT, _HEAD, _NUMBER = 1, 2, 3
"""Indices of the cell formats in ``_STYLES``: text ("@"), bold text, number."""

_FILES: Final = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/xl/workbook.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
    '<Override PartName="/xl/worksheets/sheet1.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>'
    '<Override PartName="/xl/styles.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_LINKS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_LINKS}"><sheets>'
    '<sheet name="Customers" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_LINKS}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{_LINKS}/styles" Target="styles.xml"/></Relationships>',
    "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
    '</fills><borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs>'
    '<cellXfs count="4"><xf xfId="0"/><xf numFmtId="49" xfId="0" applyNumberFormat="1"/>'
    '<xf numFmtId="49" fontId="1" xfId="0" applyNumberFormat="1" applyFont="1"/><xf numFmtId="0" xfId="0"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
}


class WorkbookTooLongError(ChurnError):
    """A list has more rows than an Excel sheet."""

    error = "workbook_too_long"


def write_workbook(file: IO[bytes], header: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> int:
    """Write a workbook to ``file``: a header that stays in view, then the rows; return their number.

    Texts become text cells, never formulas, numbers or dates; numbers become number cells; None leaves a cell empty.
    The same rows give the same bytes.

    Raises
    ------
    WorkbookTooLongError
        If there are more than :data:`ROWS_MAX` rows with the header.
    """
    with ZipFile(file, "w", ZIP_DEFLATED) as book:
        for name, content in _FILES.items():
            book.writestr(_entry(name), _XML + content)
        with book.open(_entry("xl/worksheets/sheet1.xml"), "w", force_zip64=True) as sheet:
            sheet.write(_head(header).encode())
            count = 0
            for count, row in enumerate(rows, 1):
                if count >= ROWS_MAX:
                    raise WorkbookTooLongError(
                        f"an Excel sheet holds {ROWS_MAX - 1} customers, and there are more", "use --csv"
                    )
                sheet.write(_line(count + 1, row, _TEXT).encode())
            last = f"{_letters(len(header))}{count + 1}"
            sheet.write(
                f'</sheetData><autoFilter ref="A1:{last}"/><ignoredErrors>'
                f'<ignoredError sqref="A1:{last}" numberStoredAsText="1"/></ignoredErrors></worksheet>'.encode()
            )
    return count


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name, _EPOCH)
    entry.compress_type = ZIP_DEFLATED
    return entry


def _head(header: Sequence[str]) -> str:
    widths = "".join(
        f'<col min="{place}" max="{place}" width="{min(max(len(name), 10), 40) + 2}" customWidth="1"/>'
        for place, name in enumerate(header, 1)
    )
    return (
        f'{_XML}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
        '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
        f"<cols>{widths}</cols><sheetData>{_line(1, header, _HEAD)}"
    )


def _line(number: int, cells: Sequence[str | float | None], style: int) -> str:
    filled = (_cell(f"{_letters(place)}{number}", cell, style) for place, cell in enumerate(cells, 1))
    return f'<row r="{number}">{"".join(filled)}</row>'


def _cell(place: str, cell: str | float | None, style: int) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        text = escape(_ENCODED.sub("_x005F_", _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", cell)))
        return f'<c r="{place}" s="{style}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
    return f'<c r="{place}" s="{_NUMBER}"><v>{cell!r}</v></c>'


def _letters(place: int) -> str:
    """Return the name of a column: 1 is A, 27 is AA."""
    name = ""
    while place:
        place, rest = divmod(place - 1, 26)
        name = chr(65 + rest) + name
    return name
