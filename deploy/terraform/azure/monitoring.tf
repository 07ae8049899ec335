resource "azurerm_log_analytics_workspace" "main" {
  name                         = "${local.name}-logs"
  resource_group_name          = local.group.name
  location                     = var.location
  sku                          = "PerGB2018"
  retention_in_days            = var.log_days
  daily_quota_gb               = var.log_gb_per_day
  local_authentication_enabled = var.container_image != "" # the log collector of Container Apps has a key, no identity
  tags                         = local.tags
}

resource "azurerm_application_insights" "main" {
  name                         = "${local.name}-insights"
  resource_group_name          = local.group.name
  location                     = var.location
  workspace_id                 = azurerm_log_analytics_workspace.main.id
  application_type             = "web"
  local_authentication_enabled = false
  tags                         = local.tags
}

resource "azurerm_monitor_workspace" "main" {
  name                = "${local.name}-metrics"
  resource_group_name = local.group.name
  location            = var.location
  tags                = local.tags
}

resource "azurerm_monitor_data_collection_endpoint" "main" {
  name                = "${local.name}-metrics"
  resource_group_name = local.group.name
  location            = var.location
  kind                = "Linux"
  tags                = local.tags
}

resource "azurerm_monitor_data_collection_rule" "main" {
  name                        = "${local.name}-metrics"
  resource_group_name         = local.group.name
  location                    = var.location
  kind                        = "Linux"
  data_collection_endpoint_id = azurerm_monitor_data_collection_endpoint.main.id
  tags                        = local.tags

  data_sources {
    prometheus_forwarder {
      name    = "prometheus"
      streams = ["Microsoft-PrometheusMetrics"]
    }
  }

  destinations {
    monitor_account {
      name               = "metrics"
      monitor_account_id = azurerm_monitor_workspace.main.id
    }
  }

  data_flow {
    streams      = ["Microsoft-PrometheusMetrics"]
    destinations = ["metrics"]
  }
}

locals {
  remote_write_url = join("", [
    azurerm_monitor_data_collection_endpoint.main.metrics_ingestion_endpoint,
    "/dataCollectionRules/${azurerm_monitor_data_collection_rule.main.immutable_id}",
    "/streams/Microsoft-PrometheusMetrics/api/v1/write?api-version=2023-04-24",
  ])
}
