environment  = "staging"
replication  = "ZRS"
registry_sku = "Standard"
budget       = 200
