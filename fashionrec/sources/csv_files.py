"""CSV files as rows: RFC 4180, by their own header."""

import re
from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.lake.spec import TableSpec
from fashionrec.sources.columns import missing_columns
from fashionrec.sources.folders import READ_AS_NAMED
from fashionrec.sources.headers import Header
from fashionrec.sources.rows import file_of_row, is_blank, is_one_json, nullable, shaped

# What an error says of a CSV file in which a record holds others.
OPEN_QUOTE = "a quote that is never closed"
# A text of so many lines is no cell of a row.
_MOST_LINES = 100


def faults_of_header(names: Sequence[str], spec: TableSpec) -> list[str]:
    """Return what is wrong with the columns that a header names."""
    twice = sorted({name for name in names if names.count(name) > 1})
    return missing_columns(names, spec) + ([f"{', '.join(twice)} more than once in the header"] if twice else [])


def read_csv(spark: SparkSession, paths: Sequence[str], header: Header, spec: TableSpec) -> DataFrame:
    """Return the rows of CSV files with one header: RFC 4180, quoted cells may hold line ends; lists and maps are JSON in their cell."""
    schema = nullable(spec)
    names = [name if name in schema.names else f"_extra_{place}" for place, name in enumerate(header.names)]
    cells = t.StructType([t.StructField(name, t.StringType()) for name in (*names, "_corrupt")])
    reader = spark.read.schema(cells).options(**READ_AS_NAMED, header=True, multiLine=True, sep=header.separator)
    # Where a quote opens and another cell's quote comes before its own, the first is a letter like any other.
    reader = reader.options(quote='"', escape='"', unescapedQuoteHandling="BACK_TO_DELIMITER", columnNameOfCorruptRecord="_corrupt")
    rows = reader.csv(list(paths)).withColumn("_file", file_of_row())
    known = [field for field in schema if field.name in names]
    values = {field.name: _value_of_cell(field) for field in known}
    misread = {field.name: ~is_blank(field.name) & value.isNull() for field, value in zip(known, values.values(), strict=True)}
    holds_others = _holds_others(names, header.separator, misread, schema)
    malformed = reduce(Column.__or__, misread.values(), f.lit(False))
    # Where a cell could not be read, the cells themselves are the row's text.
    text = f.coalesce("_corrupt", f.when(malformed, f.to_json(f.struct(*values))))
    # Rows inside a cell are nowhere counted: whoever asks for such a record gets an error instead.
    found = f.concat(f.lit(f"{OPEN_QUOTE} ("), f.to_json(f.struct(f.lit(header.separator).alias("separator"), "_file")), f.lit(")"))
    file = f.when(holds_others, f.raise_error(found).cast("string")).otherwise(f.col("_file"))
    rows = rows.withColumns({"_text": text, "_malformed": f.col("_corrupt").isNotNull() | malformed, "_file": file})
    return shaped(rows.withColumns(values), schema)


def _holds_others(names: Sequence[str], separator: str, misread: Mapping[str, Column], schema: t.StructType) -> Column:
    """Return whether a record took in the rows after it, as one does in which a quote is never closed.

    Such a record has the wrong number of cells, or its long cell holds as many separators as a row has: from one column to the same
    column of a later row.
    """
    texts = {field.name for field in schema if isinstance(field.dataType, t.StringType)}

    def of_cell(name: str) -> Column:
        cell = f.col(name)
        separators = f.length(cell) - f.length(f.replace(cell, f.lit(separator), f.lit("")))
        many = f.size(f.split(cell, "\n")) > _MOST_LINES
        # A list that can be read as JSON is one, however many commas are in it.
        swallowed = separators >= len(names) - 1
        if name not in schema.names:
            # Nobody knows what a shop writes into columns of its own; a whole row is seldom part of it.
            swallowed = cell.rlike(rf"\n(?:[^\n]*?{re.escape(separator)}){{{len(names) - 1}}}")
        elif name not in texts:
            swallowed &= misread[name]
        return f.when(f.contains(cell, f.lit("\n")), many | swallowed).otherwise(f.lit(False))

    ragged = f.coalesce(f.contains("_corrupt", f.lit("\n")), f.lit(False))
    return reduce(Column.__or__, map(of_cell, names), ragged)


def _value_of_cell(field: t.StructField) -> Column:
    """Return a cell as the contract's type, null where it is blank or cannot be read as that."""
    kind = field.dataType
    if isinstance(kind, t.StringType):
        return f.col(field.name)
    if isinstance(kind, (t.ArrayType, t.MapType)):
        return f.when(is_one_json(field.name), f.from_json(field.name, kind.simpleString()))
    return f.trim(field.name).try_cast(kind)
