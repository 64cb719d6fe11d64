"""From a probability to what is done: threshold, reasons, levers."""
