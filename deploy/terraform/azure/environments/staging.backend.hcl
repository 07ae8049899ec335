resource_group_name  = "inferry-state-rg"
storage_account_name = "inferrystatestaging"
container_name       = "tfstate"
key                  = "azure/staging.tfstate"
use_azuread_auth     = true
