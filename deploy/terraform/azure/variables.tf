variable "project" {
  description = "First part of all names, and the tag Project"
  type        = string
  default     = "inferry"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,9}$", var.project))
    error_message = "project has 2 to 10 small letters and digits: names of storage accounts are made of it."
  }
}

variable "environment" {
  description = "Second part of all names, and the tag Environment"
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,6}$", var.environment))
    error_message = "environment has 2 to 7 small letters and digits, as in dev, staging and prod."
  }
}

variable "location" {
  description = "Azure region; it must have Flex Consumption"
  type        = string
  default     = "westeurope"
}

variable "resource_group" {
  description = "Name of a resource group that there is already; empty: one is made"
  type        = string
  default     = ""
}

variable "subnet" {
  description = "ID of the subnet that the function app sends from, delegated to Microsoft.App/environments; empty: none"
  type        = string
  default     = ""

  validation {
    condition     = var.subnet == "" || can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Network/virtualNetworks/[^/]+/subnets/[^/]+$", var.subnet))
    error_message = "subnet must be the ID of a subnet, /subscriptions/.../virtualNetworks/NAME/subnets/NAME."
  }
}

variable "private_endpoint_subnet" {
  description = "ID of the subnet of private endpoints for the app and its storage, which are then reached by nothing else; empty: public endpoints"
  type        = string
  default     = ""

  validation {
    condition     = var.private_endpoint_subnet == "" || can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Network/virtualNetworks/[^/]+/subnets/[^/]+$", var.private_endpoint_subnet))
    error_message = "private_endpoint_subnet must be the ID of a subnet, /subscriptions/.../virtualNetworks/NAME/subnets/NAME."
  }

  validation {
    condition     = var.private_endpoint_subnet == "" || var.subnet != ""
    error_message = "private_endpoint_subnet needs subnet: without it, the app reaches no private endpoint of its storage."
  }

  validation {
    condition     = var.private_endpoint_subnet == "" || var.private_endpoint_subnet != var.subnet
    error_message = "private_endpoint_subnet must be another one than subnet, which is delegated to the app."
  }

  validation {
    condition     = var.private_endpoint_subnet == "" || var.container_image == ""
    error_message = "container_image can't be with private_endpoint_subnet: the Container App is in no virtual network, and would not reach its storage."
  }
}

variable "private_dns_zones" {
  description = "IDs of the private DNS zones that private endpoints register in, by blob, queue, table and sites; those left out are registered otherwise, by a policy for example"
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.private_dns_zones), ["blob", "queue", "table", "sites"])) == 0
    error_message = "private_dns_zones are of blob, queue, table and sites."
  }

  validation {
    condition     = length(var.private_dns_zones) == 0 || var.private_endpoint_subnet != ""
    error_message = "private_dns_zones belong to private_endpoint_subnet."
  }
}

variable "allowed_addresses" {
  description = "Public IPv4 addresses and ranges that reach the app and its storage beside private endpoints, to deploy from"
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.allowed_addresses) == 0 || var.private_endpoint_subnet != ""
    error_message = "allowed_addresses belong to private_endpoint_subnet: without it, every address reaches the app."
  }
}

# The next five are written by generate.py: the app's own names and settings.

variable "app_settings" {
  description = "inferry's settings, as Settings.to_env() writes them"
  type        = map(string)
}

variable "containers" {
  description = "Blob containers by their part: models, input and output"
  type        = object({ models = string, input = string, output = string })
}

variable "requests" {
  description = "Folder of the input container for requests that are answered later: the app writes there, and nowhere else in it"
  type        = string
}

variable "queues" {
  description = "The queue of jobs, and that of messages that failed too often"
  type        = object({ jobs = string, jobs_poison = string })
}

variable "triggers" {
  description = "The connection of the app's triggers"
  type        = object({ connection = string })
}

variable "python_version" {
  description = "Python of the function app"
  type        = string
  default     = "3.12"

  validation {
    condition     = contains(["3.11", "3.12", "3.13"], var.python_version)
    error_message = "python_version must be 3.11, 3.12 or 3.13."
  }
}

variable "instance_memory" {
  description = "Memory of an instance of the function app in MB; 2048 comes with one CPU, 4096 with two"
  type        = number
  default     = 2048

  validation {
    condition     = contains([2048, 4096], var.instance_memory)
    error_message = "instance_memory must be 2048 or 4096."
  }
}

variable "maximum_instances" {
  description = "Most instances of the function app, and most replicas of the Container App"
  type        = number
  default     = 40
}

variable "always_ready" {
  description = "Instances of the function app that wait for HTTP requests all the time; 0: it scales to zero"
  type        = number
  default     = 0
}

variable "http_concurrency" {
  description = "Requests that one instance answers at once; Python's default would be 1, and nothing would be batched"
  type        = number
  default     = 16
}

variable "entra_client_id" {
  description = "Application (client) ID that callers' Entra ID tokens are for, instead of function keys; empty: function keys"
  type        = string
  default     = ""
}

variable "container_image" {
  description = "Repository and tag of the image in the registry, for a Container App; empty: none"
  type        = string
  default     = ""
}

variable "container_cpu" {
  description = "CPUs of a replica of the Container App; it has 2 GB of memory for each"
  type        = number
  default     = 1
}

variable "replication" {
  description = "Replication of the storage account with models, inputs and outputs"
  type        = string
  default     = "LRS"
}

variable "registry_sku" {
  description = "Tier of the container registry"
  type        = string
  default     = "Basic"
}

variable "input_days" {
  description = "Days after which files of the input and output containers are deleted"
  type        = number
  default     = 30
}

variable "log_days" {
  description = "Days that logs are kept"
  type        = number
  default     = 30
}

variable "log_gb_per_day" {
  description = "Most GB of logs a day; what comes after that is lost"
  type        = number
  default     = 1
}

variable "uploaders" {
  description = "Object IDs of those who may upload models and files; empty: whoever applies"
  type        = list(string)
  default     = []
}

variable "alert_emails" {
  description = "Addresses that alerts go to"
  type        = list(string)
  default     = []
}

variable "latency_alert_ms" {
  description = "Average milliseconds of a request above which an alert fires"
  type        = number
  default     = 2000
}

variable "failure_alert_count" {
  description = "Failed requests in five minutes above which an alert fires"
  type        = number
  default     = 10
}

variable "backlog_alert_count" {
  description = "Messages that may wait in the queues of the account, averaged over an hour"
  type        = number
  default     = 1000
}

variable "budget" {
  description = "Monthly cost of the resource group of which 80 % forecast or 100 % spent is an alert; 0: none"
  type        = number
  default     = 0
}
