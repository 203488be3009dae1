"""The data dictionary of all tables, made from schemas/."""

from fashionrec.lake.spec import Column, table_specs


def data_dictionary() -> str:
    """Return the data dictionary of all tables as Markdown, made from schemas/."""
    parts = ["# Tables", "", "Made from `schemas/` by `make docs`; do not edit."]
    for spec in table_specs():
        key = ", ".join(spec.primary_key) or "none"
        parts += ["", f"## {spec.table}", "", f"One row: {spec.grain}. Key: {key}."]
        if spec.partitioned_by:
            parts[-1] += f" Partitioned by {', '.join(spec.partitioned_by)}."
        if spec.retention_days:
            parts[-1] += f" Kept {spec.retention_days} days."
        parts += ["", "| column | type | null | meaning |", "|---|---|---|---|"]
        for column, field in zip(spec.columns, spec.struct, strict=True):
            kind = field.dataType.simpleString().replace(",", ", ")
            parts.append(f"| {column.name} | `{kind}` | {'yes' if column.nullable else ''} | {meaning(column)} |")
        if spec.constraints:
            parts += ["", "Constraints, refused on write:", ""]
            parts += [f"- `{c.name}`: `{c.check}` ({c.why})" for c in spec.constraints]
    return "\n".join(parts) + "\n"


def meaning(column: Column) -> str:
    """Return what a column means in one line: description, unit, formula, and whether it is personal or was typed."""
    words = column.description + (f" [{column.unit}]" if column.unit else "") + (f"; {column.formula}" if column.formula else "")
    return words + (" (personal)" if column.pii else "") + (" (typed)" if column.free_text else "")
