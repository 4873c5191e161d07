"""Payload formats: each module turns one kind of payload into readings.

A format is a module with a function ``decode(payload, streams, readings)``: the payload's bytes, the datastreams of the
topic's device (property name → datastream index), and the columns to fill (``ingest.readings.Readings``). It never
raises: what it can't use it hands to ``readings.refuse`` with a reason.
"""
