resource_group_name  = "inferry-state-rg"
storage_account_name = "inferrystateprod"
container_name       = "tfstate"
key                  = "azure/prod.tfstate"
use_azuread_auth     = true
