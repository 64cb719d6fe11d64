"""A Telco population that lives month by month, with everything it does written as events and its truth beside."""
