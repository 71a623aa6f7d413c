"""Liquid drops."""
