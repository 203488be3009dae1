"""Quality gates: Great Expectations suites generated from the table specifications."""

from fashionrec.quality.gate import GateError, check_rows

__all__ = ["GateError", "check_rows"]
