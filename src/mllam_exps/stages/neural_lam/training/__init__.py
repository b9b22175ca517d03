"""What a training is besides its weights: how it begins, the random numbers that it draws, its story of losses."""
