# Private endpoints of the app and of its storage, where a variable names a subnet for them.

locals {
  is_private = var.private_endpoint_subnet != ""

  # The host keeps leases in tables too.
  private_endpoints = {
    for name, endpoint in {
      app        = { resource = azapi_resource.function.id, part = "sites" }
      host-blob  = { resource = azurerm_storage_account.main["host"].id, part = "blob" }
      host-queue = { resource = azurerm_storage_account.main["host"].id, part = "queue" }
      host-table = { resource = azurerm_storage_account.main["host"].id, part = "table" }
      data-blob  = { resource = azurerm_storage_account.main["data"].id, part = "blob" }
      data-queue = { resource = azurerm_storage_account.main["data"].id, part = "queue" }
    } : name => endpoint if local.is_private
  }
}

resource "azurerm_private_endpoint" "main" {
  for_each = local.private_endpoints

  name                = "${local.name}-${each.key}"
  resource_group_name = local.group.name
  location            = var.location
  subnet_id           = var.private_endpoint_subnet
  tags                = local.tags

  private_service_connection {
    name                           = each.key
    private_connection_resource_id = each.value.resource
    subresource_names              = [each.value.part]
    is_manual_connection           = false
  }

  dynamic "private_dns_zone_group" {
    for_each = [for part, zone in var.private_dns_zones : zone if part == each.value.part]

    content {
      name                 = each.value.part
      private_dns_zone_ids = [private_dns_zone_group.value]
    }
  }
}
