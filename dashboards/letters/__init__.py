"""The page of dead letters, for technicians and operators: what was refused, why, and what to do about it."""
