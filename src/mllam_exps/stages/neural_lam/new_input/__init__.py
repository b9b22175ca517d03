"""Forecasts of an experiment from input that it has not seen: what is asked for, and the program that makes them."""
