"""The common language of all rooms: what is observed, where, in which unit, how good, and what follows.

It holds plain data types and the facts about them. It does no I/O, reads no clock and imports no other room.
"""
