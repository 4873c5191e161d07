"""Who is out there: the registry of sites, devices and datastreams, with limits and thresholds.

It hands out the Directory (``telemetry.directory``), which is all that the hot path knows of it.
"""
