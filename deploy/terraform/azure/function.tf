locals {
  data = azurerm_storage_account.main["data"]

  # What only Azure knows, for both hosts of the app: where things are, and that tokens of its identity open them.
  settings = merge(var.app_settings, {
    AZURE_STORAGE_ACCOUNT_NAME = local.data.name
    REMOTE_WRITE_URL           = local.remote_write_url

    "${var.triggers.connection}__queueServiceUri" = trimsuffix(local.data.primary_queue_endpoint, "/")
    "${var.triggers.connection}__credential"      = "managedidentity"

    AzureWebJobsStorage__accountName = azurerm_storage_account.main["host"].name
    AzureWebJobsStorage__credential  = "managedidentity"

    # Without it the host would send telemetry with the key of the connection string, which is switched off.
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING = "Authorization=AAD"
    ORT_DISABLE_TELEMETRY                     = "1"
  })

  function_settings = merge(local.settings, {
    AUTH_LEVEL                            = var.entra_client_id == "" ? "function" : "anonymous"
    APPLICATIONINSIGHTS_CONNECTION_STRING = azurerm_application_insights.main.connection_string
  })

  # The properties of Microsoft.Web/sites, less the network that there may be.
  site = {
    serverFarmId        = azurerm_service_plan.main.id
    httpsOnly           = true
    clientCertEnabled   = false
    publicNetworkAccess = local.is_private && length(var.allowed_addresses) == 0 ? "Disabled" : "Enabled"

    functionAppConfig = {
      deployment = {
        storage = {
          type           = "blobContainer"
          value          = "${azurerm_storage_account.main["host"].primary_blob_endpoint}${azurerm_storage_container.packages.name}"
          authentication = { type = "SystemAssignedIdentity" }
        }
      }

      runtime = { name = "python", version = var.python_version }

      scaleAndConcurrency = {
        maximumInstanceCount = var.maximum_instances
        instanceMemoryMB     = var.instance_memory
        alwaysReady          = [for count in [var.always_ready] : { name = "http", instanceCount = count } if count > 0]
        triggers             = { http = { perInstanceConcurrency = var.http_concurrency } }
      }
    }

    siteConfig = {
      minTlsVersion    = "1.2"
      scmMinTlsVersion = "1.2"
      http20Enabled    = true
      appSettings      = [for name, value in local.function_settings : { name = name, value = value }]

      ipSecurityRestrictionsDefaultAction = local.is_private ? "Deny" : "Allow"
      scmIpSecurityRestrictionsUseMain    = true
      ipSecurityRestrictions = [
        for address in var.allowed_addresses :
        { name = address, ipAddress = strcontains(address, "/") ? address : "${address}/32", action = "Allow", priority = 100 }
      ]
    }
  }

  url = "https://${azapi_resource.function.output.properties.defaultHostName}"
}

resource "azurerm_service_plan" "main" {
  #checkov:skip=CKV_AZURE_211: Flex Consumption (FC1) is made for production; the check knows the older plans
  #checkov:skip=CKV_AZURE_212: Flex Consumption counts instances itself: see always_ready
  #checkov:skip=CKV_AZURE_225: Zones cost three always-ready instances: a decision of its own, see docs/deploy-azure.md
  name                = "${local.name}-plan"
  resource_group_name = local.group.name
  location            = var.location
  os_type             = "Linux"
  sku_name            = "FC1"
  tags                = local.tags
}

# Not azurerm_function_app_flex_consumption: up to 4.81 it writes AzureWebJobsStorage, a connection string, beside the
# settings of the identity (its issues 29693 and 33211). The host takes that setting for one even when it is empty
# (azure-functions-host issue 11796); Microsoft's own module leaves it out.
resource "azapi_resource" "function" {
  type      = "Microsoft.Web/sites@2024-04-01"
  name      = "${local.name}-${random_string.suffix.result}"
  parent_id = local.group.id
  location  = var.location
  tags      = local.tags

  identity {
    type = "SystemAssigned"
  }

  body = {
    kind       = "functionapp,linux"
    properties = merge(local.site, { for name, id in { virtualNetworkSubnetId = var.subnet } : name => id if id != "" })
  }

  response_export_values = ["properties.defaultHostName"]
}

# Who publishes shows a token: no name and password.
resource "azapi_update_resource" "publishing" {
  for_each = toset(["ftp", "scm"])

  type      = "Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01"
  name      = each.value
  parent_id = azapi_resource.function.id
  body      = { properties = { allow = false } }
}

resource "azapi_update_resource" "entra" {
  count = var.entra_client_id == "" ? 0 : 1

  type      = "Microsoft.Web/sites/config@2024-04-01"
  name      = "authsettingsV2"
  parent_id = azapi_resource.function.id

  body = {
    properties = {
      platform     = { enabled = true }
      httpSettings = { requireHttps = true }
      login        = { tokenStore = { enabled = false } }

      globalValidation = {
        requireAuthentication       = true
        unauthenticatedClientAction = "Return401"
        redirectToProvider          = "azureactivedirectory"
        excludedPaths               = ["/health", "/v2/health/live", "/v2/health/ready"] # probes carry no token
      }

      identityProviders = {
        azureActiveDirectory = {
          enabled = true

          registration = {
            clientId     = var.entra_client_id
            openIdIssuer = "https://login.microsoftonline.com/${data.azurerm_client_config.current.tenant_id}/v2.0"
          }

          validation = { allowedAudiences = [var.entra_client_id, "api://${var.entra_client_id}"] }
        }
      }
    }
  }
}

data "azurerm_client_config" "current" {}
