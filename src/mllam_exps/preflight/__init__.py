"""What can be found wrong before anything is submitted: environment, parameters, data, what a scheduler refuses."""
