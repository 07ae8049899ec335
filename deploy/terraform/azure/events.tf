# Files that arrive in the input container start the blob trigger. Flex Consumption has no other way than Event Grid.

resource "azurerm_eventgrid_system_topic" "data" {
  name                = "${local.name}-files"
  resource_group_name = azurerm_resource_group.main.name
  location            = azurerm_resource_group.main.location
  source_resource_id  = local.data.id
  topic_type          = "Microsoft.Storage.StorageAccounts"
  tags                = local.tags

  identity {
    type = "SystemAssigned"
  }
}

data "azurerm_function_app_host_keys" "main" {
  count = var.code_published ? 1 : 0

  name                = azurerm_function_app_flex_consumption.main.name
  resource_group_name = azurerm_resource_group.main.name
}

resource "azurerm_eventgrid_system_topic_event_subscription" "input" {
  count = var.code_published ? 1 : 0

  name                  = "${local.name}-input"
  system_topic          = azurerm_eventgrid_system_topic.data.name
  resource_group_name   = azurerm_resource_group.main.name
  event_delivery_schema = "EventGridSchema"
  included_event_types  = ["Microsoft.Storage.BlobCreated"]

  subject_filter {
    subject_begins_with = "/blobServices/default/containers/${var.containers.input}/"
  }

  # A file is one event once it is whole: these calls end an upload, the others are its parts.
  advanced_filter {
    string_in {
      key    = "data.api"
      values = ["PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose"]
    }
  }

  webhook_endpoint {
    url = format(
      "https://%s/runtime/webhooks/blobs?functionName=Host.Functions.%s&code=%s",
      azurerm_function_app_flex_consumption.main.default_hostname,
      var.triggers.files,
      data.azurerm_function_app_host_keys.main[0].blobs_extension_key,
    )
  }

  retry_policy {
    max_delivery_attempts = 30
    event_time_to_live    = 1440
  }

  dead_letter_identity {
    type = "SystemAssigned"
  }

  storage_blob_dead_letter_destination {
    storage_account_id          = local.data.id
    storage_blob_container_name = azurerm_storage_container.undelivered.name
  }

  depends_on = [azurerm_role_assignment.undelivered]
}
