"""Attention maps: the explorer, what is computed and measured, and sections of pages."""
