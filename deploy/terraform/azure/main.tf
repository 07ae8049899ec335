# What has to be unique in all of Azure ends in this.
resource "random_string" "suffix" {
  length  = 6
  upper   = false
  special = false
}

locals {
  own_group = var.resource_group == "" ? 1 : 0
  group     = one(concat(azurerm_resource_group.main[*], data.azurerm_resource_group.existing[*]))

  name = "${var.project}-${var.environment}"
  # Names of storage accounts and registries: at most 24 small letters and digits.
  short = substr("${var.project}${var.environment}", 0, 14)

  tags = {
    Environment = var.environment
    Project     = var.project
    ManagedBy   = "Terraform"
  }
}

# One that there is already, or one of this configuration's own.
data "azurerm_resource_group" "existing" {
  count = 1 - local.own_group

  name = var.resource_group
}

resource "azurerm_resource_group" "main" {
  count = local.own_group

  name     = "${local.name}-rg"
  location = var.location
  tags     = local.tags
}
