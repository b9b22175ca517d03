"""One try at a run: it is launched, works inside a job, is waited for, and is stopped.

A `Supervisor` lives inside the job, with its `worker`, what it reads (`inputs`, `outside`,
`variables`) and logs (`tracked`); a `Driver` waits in the user's terminal, and may be
interrupted. Whoever starts an attempt uses `launch`, `workdir`, `job_request`,
`job_quota` and `follow_up`.
"""
