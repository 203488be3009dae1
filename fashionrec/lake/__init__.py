"""Tables: their specifications, the Spark session, reading as of a date, writing one day atomically."""
