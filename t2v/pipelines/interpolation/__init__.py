"""Frames between and beyond known ones: pairs of pictures, videos at a higher rate, extension, animation."""
