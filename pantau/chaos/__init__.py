"""``pantau chaos``: a fleet, a broker, a pipeline and a store of its own, and faults in all of them.

Whatever is done to them, the store must end with what an undisturbed run of the same fleet leaves in it.
"""
