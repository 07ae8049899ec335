# What the app may do, with one line for each: nothing on the resource group, nothing on the data account as a whole.

locals {
  host  = azurerm_storage_account.main["host"].id
  queue = { for part, queue in azurerm_storage_queue.main : part => queue.id }

  grants = {
    # The Functions host keeps leases, keys and packages in its own account.
    "host blobs"  = { scope = local.host, role = "Storage Blob Data Owner" }
    "host queues" = { scope = local.host, role = "Storage Queue Data Contributor" }
    "host tables" = { scope = local.host, role = "Storage Table Data Contributor" }

    "read models" = { scope = azurerm_storage_container.data["models"].id, role = "Storage Blob Data Reader" }
    "read input"  = { scope = azurerm_storage_container.data["input"].id, role = "Storage Blob Data Reader" }
    # Requests that are answered later become files there, and nothing else does.
    "write requests" = {
      scope     = azurerm_storage_container.data["input"].id, role = "Storage Blob Data Contributor"
      condition = "@Resource[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:path] StringLike '${var.requests}/*'"
    }
    "write output" = { scope = azurerm_storage_container.data["output"].id, role = "Storage Blob Data Contributor" }

    "see jobs"     = { scope = local.queue["jobs"], role = "Storage Queue Data Reader" }
    "take jobs"    = { scope = local.queue["jobs"], role = "Storage Queue Data Message Processor" }
    "send jobs"    = { scope = local.queue["jobs"], role = "Storage Queue Data Message Sender" }
    "give up jobs" = { scope = local.queue["jobs_poison"], role = "Storage Queue Data Message Sender" }

    "send metrics" = { scope = azurerm_monitor_data_collection_rule.main.id, role = "Monitoring Metrics Publisher" }
    "send logs"    = { scope = azurerm_application_insights.main.id, role = "Monitoring Metrics Publisher" }
  }

  uploaders = length(var.uploaders) > 0 ? var.uploaders : [data.azurerm_client_config.current.object_id]

  hosts = merge(
    { function = azapi_resource.function.identity[0].principal_id },
    { for app in azurerm_container_app.main : "container" => app.identity[0].principal_id },
  )

  assignments = {
    for pair in setproduct(keys(local.hosts), keys(local.grants)) :
    "${pair[0]}: ${pair[1]}" => merge(local.grants[pair[1]], { principal = local.hosts[pair[0]] })
  }
}

resource "azurerm_role_assignment" "app" {
  for_each = local.assignments

  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = each.value.principal
  principal_type       = "ServicePrincipal"
  description          = each.key
  condition            = try(each.value.condition, null)
  condition_version    = can(each.value.condition) ? "2.0" : null
}

resource "azurerm_role_assignment" "pull" {
  count = local.containers

  scope                = azurerm_container_registry.main.id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_user_assigned_identity.pull[0].principal_id
  principal_type       = "ServicePrincipal"
}

# Event Grid's: files that arrive become jobs, and what it can't deliver is put aside.
resource "azurerm_role_assignment" "events" {
  for_each = {
    "send jobs" = { scope = local.queue["jobs"], role = "Storage Queue Data Message Sender" }
    "give up"   = { scope = azurerm_storage_container.undelivered.id, role = "Storage Blob Data Contributor" }
  }

  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = azurerm_eventgrid_system_topic.data.identity[0].principal_id
  principal_type       = "ServicePrincipal"
  description          = "events: ${each.key}"
}

# Who uploads models and files: whoever applies this, unless a variable says otherwise.
resource "azurerm_role_assignment" "uploader" {
  for_each = {
    for pair in setproduct(local.uploaders, ["models", "input"]) : join(" ", pair) => { principal = pair[0], part = pair[1] }
  }

  scope                = azurerm_storage_container.data[each.value.part].id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = each.value.principal
  description          = "uploads ${each.value.part}"
}
