"""The operator's page: what is wrong in the city, where, how bad and how soon, on one screen and live.

``LiveCity`` is the model that the runtime feeds; ``api.operator_app`` serves it. The page itself is in ``static/``.
"""
