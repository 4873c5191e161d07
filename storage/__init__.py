"""Results to a store, and back: InfluxDB or embedded Parquet, behind one protocol, with a spool for bad hours.

``schema`` names what is stored, ``store`` is the protocol, ``embedded`` and ``influx`` fulfil it, ``writer`` is the
thread between the core and a store. Nothing here judges readings, and nothing here draws pictures.
"""
