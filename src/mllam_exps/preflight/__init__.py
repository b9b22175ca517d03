"""What can be found wrong before anything is submitted: environment, parameters, data, what a scheduler refuses.

`checks` is what `mllam-exps check` calls, `submittable` what only a submission needs.
Of a stage's files: `missing_inputs` are not there, `not_in_clone` are not in the copy
that a job has, `named_files` stand in its command alone, `lost_links` lead nowhere
there, `lost_data` are in nobody's cache.
"""
