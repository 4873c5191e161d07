"""From MQTT brokers to journaled Observations: connections, payload formats, journal, dead letters.

The way of a message: ``connection`` takes it off the socket, ``receiver`` finds its device, a module of ``formats``
turns its payload into columns, ``journal`` makes the micro-batch durable, and only then the broker is told (PUBACK).
What can't be used goes to ``dead_letters`` with a reason. What the readings mean is left to ``processing``.
"""
