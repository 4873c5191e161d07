"""How the tables came to be what they are; run by ``devices.database`` when a registry is opened."""
