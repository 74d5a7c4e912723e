"""The learning-rate schedules that frameworks have classes for: a file of rows for each framework."""
