"""Grafana dashboards as code, generated with grafana-foundation-sdk, and their checks and publishing.

``generate.build(folder)`` writes them, ``checks.check(...)`` looks for mistakes, ``publishing.publish(...)`` puts them
on a server.
"""
