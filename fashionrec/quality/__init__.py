"""Quality gates: Great Expectations suites made from the table specifications and from what the last good days looked like."""

from fashionrec.quality.gate import GateError, check_rows, require_passed

__all__ = ["GateError", "check_rows", "require_passed"]
