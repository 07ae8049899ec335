# Files that arrive in the input container become messages in the queue of jobs. Event Grid shows a token of its own: it
# needs no key of the app, and nothing of the app has to be there before.

resource "azurerm_eventgrid_system_topic" "data" {
  name                = "${local.name}-files"
  resource_group_name = local.group.name
  location            = var.location
  source_resource_id  = local.data.id
  topic_type          = "Microsoft.Storage.StorageAccounts"
  tags                = local.tags

  identity {
    type = "SystemAssigned"
  }
}

resource "azurerm_eventgrid_system_topic_event_subscription" "input" {
  name                  = "${local.name}-input"
  system_topic          = azurerm_eventgrid_system_topic.data.name
  resource_group_name   = local.group.name
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

  # A message waits as long as it takes: for code that is not published yet, say.
  storage_queue_endpoint {
    storage_account_id                    = local.data.id
    queue_name                            = azurerm_storage_queue.main["jobs"].name
    queue_message_time_to_live_in_seconds = -1
  }

  delivery_identity {
    type = "SystemAssigned"
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

  depends_on = [azurerm_role_assignment.events]
}
