"""Audit of published tables: numbers that contradict each other or themselves."""

from eus_ray.analysis.audit.checks import audit, audit_lines
from eus_ray.analysis.audit.findings import Finding
from eus_ray.analysis.audit.statements import Statement, read_statements

__all__ = ["Finding", "Statement", "audit", "audit_lines", "read_statements"]
