"""The core: observations and state in, results out. Pure numpy: no I/O, no clock, no randomness, no globals.

``core.step`` is the way in; the other modules are its parts and can be used alone.
"""
