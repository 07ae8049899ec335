resource_group_name  = "inferry-state-rg"
storage_account_name = "inferrystatedev"
container_name       = "tfstate"
key                  = "azure/dev.tfstate"
use_azuread_auth     = true
