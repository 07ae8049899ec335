"""Names that the Functions app shares with its infrastructure.

Triggers and bindings read them here; Terraform gets them through the variables that deploy/terraform/azure/generate.py
writes.
"""

MODELS, INPUT, OUTPUT = "models", "input", "output"
CONTAINERS = (MODELS, INPUT, OUTPUT)

JOBS_QUEUE = "inferry-jobs"
# The host's own rule: a message that failed too often goes to the queue of this name.
POISON_QUEUE = f"{JOBS_QUEUE}-poison"

# The trigger's connection: the prefix of the settings STORAGE__queueServiceUri, STORAGE__credential, ...
CONNECTION = "STORAGE"

JOBS_FUNCTION = "jobs"
