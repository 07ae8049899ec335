# What has to be unique in all of Azure ends in this.
resource "random_string" "suffix" {
  length  = 6
  upper   = false
  special = false
}

locals {
  name = "${var.project}-${var.environment}"
  # Names of storage accounts and registries: at most 24 small letters and digits.
  short = substr("${var.project}${var.environment}", 0, 14)

  tags = {
    Environment = var.environment
    Project     = var.project
    ManagedBy   = "Terraform"
  }
}

resource "azurerm_resource_group" "main" {
  name     = "${local.name}-rg"
  location = var.location
  tags     = local.tags
}
