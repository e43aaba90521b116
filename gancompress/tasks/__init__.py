"""Tasks: what a generator is asked, what is real, what is wanted. A new file here is found."""

from __future__ import annotations

from gancompress.tasks.protocol import TASKS, Batch, Draw, Shown, Sources, Task

__all__ = ["TASKS", "Batch", "Draw", "Shown", "Sources", "Task"]
