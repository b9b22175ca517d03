"""Neural-LAM's stages: prepare_dataset, create_graph, train, evaluate, infer and verify, one to a module.

What is known of Neural-LAM, mllam-data-prep and their files is known here.
"""
