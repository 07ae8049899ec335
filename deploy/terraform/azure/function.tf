locals {
  data = azurerm_storage_account.main["data"]

  # What only Azure knows, for both hosts of the app: where things are, and that tokens of its identity open them.
  settings = merge(var.app_settings, {
    AZURE_STORAGE_ACCOUNT_NAME = local.data.name
    REMOTE_WRITE_URL           = local.remote_write_url

    "${var.triggers.connection}__blobServiceUri"  = trimsuffix(local.data.primary_blob_endpoint, "/")
    "${var.triggers.connection}__queueServiceUri" = trimsuffix(local.data.primary_queue_endpoint, "/")
    "${var.triggers.connection}__credential"      = "managedidentity"

    AzureWebJobsStorage__accountName = azurerm_storage_account.main["host"].name
    AzureWebJobsStorage__credential  = "managedidentity"

    # Without it the host would send telemetry with the key of the connection string, which is switched off.
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING = "Authorization=AAD"
    ORT_DISABLE_TELEMETRY                     = "1"
  })
}

resource "azurerm_service_plan" "main" {
  #checkov:skip=CKV_AZURE_211: Flex Consumption (FC1) is made for production; the check knows the older plans
  #checkov:skip=CKV_AZURE_212: Flex Consumption counts instances itself: see always_ready
  #checkov:skip=CKV_AZURE_225: Zones cost three always-ready instances: a decision of its own, see docs/deploy-azure.md
  name                = "${local.name}-plan"
  resource_group_name = azurerm_resource_group.main.name
  location            = azurerm_resource_group.main.location
  os_type             = "Linux"
  sku_name            = "FC1"
  tags                = local.tags
}

resource "azurerm_function_app_flex_consumption" "main" {
  name                = "${local.name}-${random_string.suffix.result}"
  resource_group_name = azurerm_resource_group.main.name
  location            = azurerm_resource_group.main.location
  service_plan_id     = azurerm_service_plan.main.id
  tags                = local.tags

  runtime_name           = "python"
  runtime_version        = var.python_version
  instance_memory_in_mb  = var.instance_memory
  maximum_instance_count = var.maximum_instances
  http_concurrency       = var.http_concurrency

  storage_container_type      = "blobContainer"
  storage_container_endpoint  = "${azurerm_storage_account.main["host"].primary_blob_endpoint}${azurerm_storage_container.packages.name}"
  storage_authentication_type = "SystemAssignedIdentity"

  https_only                                     = true
  client_certificate_enabled                     = false
  webdeploy_publish_basic_authentication_enabled = false

  app_settings = merge(local.settings, {
    AUTH_LEVEL = var.entra_client_id == "" ? "function" : "anonymous"

    # The provider writes a connection string without a key (its issue 29693); empty, the identity's settings count.
    AzureWebJobsStorage = ""
  })

  identity {
    type = "SystemAssigned"
  }

  dynamic "always_ready" {
    for_each = var.always_ready > 0 ? [var.always_ready] : []

    content {
      name           = "http"
      instance_count = always_ready.value
    }
  }

  site_config {
    application_insights_connection_string = azurerm_application_insights.main.connection_string
    minimum_tls_version                    = "1.2"
    scm_minimum_tls_version                = "1.2"
    http2_enabled                          = true
  }

  dynamic "auth_settings_v2" {
    for_each = var.entra_client_id == "" ? [] : [var.entra_client_id]

    content {
      auth_enabled           = true
      require_authentication = true
      require_https          = true
      unauthenticated_action = "Return401"
      default_provider       = "azureactivedirectory"
      # Probes carry no token, and Event Grid's requests the key of the trigger.
      excluded_paths = ["/health", "/v2/health/live", "/v2/health/ready", "/runtime/webhooks/blobs"]

      active_directory_v2 {
        client_id            = auth_settings_v2.value
        tenant_auth_endpoint = "https://login.microsoftonline.com/${data.azurerm_client_config.current.tenant_id}/v2.0"
        allowed_audiences    = [auth_settings_v2.value, "api://${auth_settings_v2.value}"]
      }

      login {
        token_store_enabled = false
      }
    }
  }
}

data "azurerm_client_config" "current" {}
