"""What goes to the outside: one saved experiment as a folder that others can read without DVC, git or us.

`contents` lays it out, `crate` describes it as a Workflow Run RO-Crate. `forecast_folder`
and `service_readme` are of a folder from which a service forecasts.
"""
