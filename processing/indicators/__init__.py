"""What readings mean in the field: rain, stage, discharge, air, noise, traffic, light. Arrays in, arrays out."""
