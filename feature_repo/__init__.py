"""What features are: the contract, its views, its transforms and its stores."""
