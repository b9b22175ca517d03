"""What maps are drawn with: the world's coastlines and borders, which lie in the package.

Nothing here downloads anything, and nothing knows of experiments or of Neural-LAM.
"""
