"""What the materialisation writes into the online stores."""
