terraform {
  required_version = ">= 1.9"

  required_providers {
    azapi = {
      source  = "Azure/azapi"
      version = "~> 2.4"
    }
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.81"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.6"
    }
  }

  # Its settings are in environments/*.backend.hcl.
  backend "azurerm" {}
}

# The subscription of both providers is ARM_SUBSCRIPTION_ID. The storage accounts take no shared keys, so neither does the provider.
provider "azurerm" {
  storage_use_azuread = true

  features {
    # All that is made of storage is made by Resource Manager, which a firewall doesn't keep out.
    storage {
      data_plane_available = false
    }

    resource_group {
      prevent_deletion_if_contains_resources = true
    }
  }
}
