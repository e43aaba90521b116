"""Operator rules: what each family of operators ties; one without a rule freezes its inputs.

One file a family; a new one in this folder is found by itself.
"""

from __future__ import annotations

from gancompress.graph.rules.base import RULES, apply_rule, load_rules

__all__ = ["RULES", "apply_rule", "load_rules"]
