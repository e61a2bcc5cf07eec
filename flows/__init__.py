"""Prefect flows over the library: order, fan-out, schedules, and what the UI shows. No arithmetic."""
