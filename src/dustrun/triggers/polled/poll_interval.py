"""The check of the interval that polled triggers have in common."""

from __future__ import annotations

from dustrun.sdk import Finding, PolledConfig, TriggerContext


def too_often(ctx: TriggerContext, config: PolledConfig) -> list[Finding]:
    """Refuses an interval that is shorter than the operator allows."""
    if config.poll_ms >= ctx.min_interval_ms:
        return []
    return [Finding("pollMs", f"This server looks every {ctx.min_interval_ms} ms at most; {config.poll_ms} is less.")]
