"""The shell that pages share: the application with its safeguards, languages, assets, and the server thread.

It knows no city, no sensor and no alarm; the rooms above it add their own routes, texts and files.
"""
