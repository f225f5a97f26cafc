"""What in a published table cannot be: `audit` of statements, `audit_lines` of a CSV table of them."""

from eus_ray.analysis.audit.checks import audit, audit_lines
from eus_ray.analysis.audit.findings import Finding
from eus_ray.analysis.audit.statements import Statement, read_statements

__all__ = ["Finding", "Statement", "audit", "audit_lines", "read_statements"]
