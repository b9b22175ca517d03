"""What tests share: experiments to try things on, clusters, synthetic data, the oracle."""
