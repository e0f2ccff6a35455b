"""t2v: a text-to-video extension toolkit after Make-A-Video (arXiv 2209.14792)."""

__version__ = "0.1.0"
