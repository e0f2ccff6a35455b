"""Triton kernels of the ops, imported only when one is launched, and their tiles."""
