"""Operator rules: what each family of operators ties; one without a rule freezes its inputs."""

from __future__ import annotations

from gancompress.graph.rules.base import RULES, apply_rule

__all__ = ["RULES", "apply_rule"]
