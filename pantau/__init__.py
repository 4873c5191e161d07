"""The composition root: settings, command line, and the runtime that joins the rooms."""

__version__ = "0.1.0"
