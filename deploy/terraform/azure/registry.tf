resource "azurerm_container_registry" "main" {
  #checkov:skip=CKV_AZURE_139: Images are pushed from outside; who may push or pull is decided by Entra ID, the admin user is off
  #checkov:skip=CKV_AZURE_163: Scanning is Defender for Containers, switched on for a subscription and not for a registry
  #checkov:skip=CKV_AZURE_164: Content trust is retired by Azure
  #checkov:skip=CKV_AZURE_165: One region; the registry is not asked by running apps
  #checkov:skip=CKV_AZURE_166: Quarantine needs the Premium tier and a scanner that releases images
  #checkov:skip=CKV_AZURE_167: Deleting untagged images needs the Premium tier
  #checkov:skip=CKV_AZURE_233: Zones need the Premium tier; the registry is not asked by running apps
  #checkov:skip=CKV_AZURE_237: Data endpoints need the Premium tier and serve private networks
  name                   = "${local.short}${random_string.suffix.result}"
  resource_group_name    = local.group.name
  location               = var.location
  sku                    = var.registry_sku
  admin_enabled          = false
  anonymous_pull_enabled = false
  tags                   = local.tags
}
