"""What arrives: the Telco CSV, its landing and publication, and a simulated stand-in."""
