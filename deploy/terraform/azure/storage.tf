# Two accounts, because the host owns all that is in its own: the data account gives it nothing but the roles of roles.tf.

locals {
  accounts = {
    host = { replication = "LRS", versioning = false }
    data = { replication = var.replication, versioning = true }
  }
}

resource "azurerm_storage_account" "main" {
  #checkov:skip=CKV_AZURE_59: By Entra ID tokens only; a firewall by variable: see networks in docs/deploy-azure.md
  #checkov:skip=CKV_AZURE_35: By variable: a firewall that denies needs private endpoints, see networks in docs/deploy-azure.md
  #checkov:skip=CKV_AZURE_33: Queue logs go to Log Analytics by the diagnostic setting below
  #checkov:skip=CKV_AZURE_206: By variable: dev keeps three copies in one place, staging and prod one in each zone
  #checkov:skip=CKV2_AZURE_33: By variable: a private endpoint needs a network, see networks in docs/deploy-azure.md
  #checkov:skip=CKV2_AZURE_1: Encrypted with Microsoft's keys; a key of one's own is a decision with a vault and a rotation
  for_each = local.accounts

  name                            = "${local.short}${each.key}${random_string.suffix.result}"
  resource_group_name             = local.group.name
  location                        = var.location
  account_tier                    = "Standard"
  account_replication_type        = each.value.replication
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  shared_access_key_enabled       = false
  default_to_oauth_authentication = true
  allow_nested_items_to_be_public = false
  local_user_enabled              = false
  tags                            = local.tags

  # Event Grid, a trusted service with an identity of its own, still puts messages into the queue: with public access
  # disabled it could not.
  network_rules {
    default_action = local.is_private ? "Deny" : "Allow"
    bypass         = ["AzureServices"]
    ip_rules       = var.allowed_addresses
  }

  blob_properties {
    versioning_enabled = each.value.versioning

    delete_retention_policy {
      days = 7
    }

    container_delete_retention_policy {
      days = 7
    }
  }
}

resource "azurerm_storage_container" "packages" {
  #checkov:skip=CKV2_AZURE_21: Reads are counted in metrics; a log line for each would cost more than the storage
  name               = "packages"
  storage_account_id = azurerm_storage_account.main["host"].id
}

resource "azurerm_storage_container" "data" {
  #checkov:skip=CKV2_AZURE_21: Reads are counted in metrics; a log line for each would cost more than the storage
  for_each = var.containers

  name               = each.value
  storage_account_id = azurerm_storage_account.main["data"].id
}

# Events that Event Grid could not deliver.
resource "azurerm_storage_container" "undelivered" {
  #checkov:skip=CKV2_AZURE_21: Reads are counted in metrics; a log line for each would cost more than the storage
  name               = "undelivered"
  storage_account_id = azurerm_storage_account.main["data"].id
}

resource "azurerm_storage_queue" "main" {
  for_each = var.queues

  name               = each.value
  storage_account_id = azurerm_storage_account.main["data"].id
}

resource "azurerm_storage_management_policy" "data" {
  storage_account_id = azurerm_storage_account.main["data"].id

  rule {
    name    = "old-jobs"
    enabled = true

    filters {
      blob_types   = ["blockBlob"]
      prefix_match = ["${var.containers.input}/", "${var.containers.output}/", "${azurerm_storage_container.undelivered.name}/"]
    }

    actions {
      base_blob {
        delete_after_days_since_modification_greater_than = var.input_days
      }

      version {
        delete_after_days_since_creation = var.input_days
      }
    }
  }
}

resource "azurerm_monitor_diagnostic_setting" "queues" {
  name                       = "queues"
  target_resource_id         = "${azurerm_storage_account.main["data"].id}/queueServices/default"
  log_analytics_workspace_id = azurerm_log_analytics_workspace.main.id

  enabled_log {
    category = "StorageWrite"
  }
}
