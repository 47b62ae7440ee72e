"""What calibration learns of one model on one device, and how: the ServiceProfile and its fits."""
