"""Workflows of ComfyUI as files: what they hold, and how they become long videos."""
