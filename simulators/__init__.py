"""Cities that do not exist, with known truth, and replays of recorded ones.

A simulated city is a pure, seeded function of time: asked twice for the same minute it gives the same readings,
whatever was asked before. What really happened in it (floods, jams, dark lamps, dead batteries) can be asked too.
"""
