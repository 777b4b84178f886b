"""The documented columns are the columns."""

from pathlib import Path

from scaling.store.schema import CURVE_COLUMNS, EVAL_COLUMNS, ROW_COLUMNS, ROW_SCHEMA, markdown

DOCS = Path(__file__).resolve().parents[2] / "docs" / "store.md"


def test_the_page_holds_the_schema() -> None:
    assert DOCS.read_text().endswith(markdown())


def test_columns_are_named_once_and_carry_their_units() -> None:
    for columns in (ROW_COLUMNS, CURVE_COLUMNS, EVAL_COLUMNS):
        names = [c.name for c in columns]
        assert len(set(names)) == len(names)
        assert all(c.meaning for c in columns)
    assert ROW_SCHEMA.field("loss").metadata[b"unit"] == b"nats per predicted token"
