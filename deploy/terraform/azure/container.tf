# The same app from the image, where a variable names one.

locals {
  containers = var.container_image == "" ? 0 : 1
  port       = 8080 # the image's, whose user may not open 80
}

# The image is pulled before the app's own identity exists.
resource "azurerm_user_assigned_identity" "pull" {
  count = local.containers

  name                = "${local.name}-pull"
  resource_group_name = local.group.name
  location            = var.location
  tags                = local.tags
}

resource "azurerm_container_app_environment" "main" {
  count = local.containers

  name                       = "${local.name}-apps"
  resource_group_name        = local.group.name
  location                   = var.location
  logs_destination           = "log-analytics"
  log_analytics_workspace_id = azurerm_log_analytics_workspace.main.id
  tags                       = local.tags
}

resource "azurerm_container_app" "main" {
  count = local.containers

  name                         = "${local.name}-app"
  resource_group_name          = local.group.name
  container_app_environment_id = azurerm_container_app_environment.main[0].id
  revision_mode                = "Single"
  tags                         = local.tags

  identity {
    type         = "SystemAssigned, UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.pull[0].id]
  }

  registry {
    server   = azurerm_container_registry.main.login_server
    identity = azurerm_user_assigned_identity.pull[0].id
  }

  ingress {
    external_enabled           = true
    allow_insecure_connections = false
    target_port                = local.port

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas = var.always_ready
    max_replicas = var.maximum_instances

    http_scale_rule {
      name                = "http"
      concurrent_requests = var.http_concurrency
    }

    container {
      name   = "inferry"
      image  = "${azurerm_container_registry.main.login_server}/${var.container_image}"
      cpu    = var.container_cpu
      memory = "${var.container_cpu * 2}Gi"

      dynamic "env" {
        for_each = merge(local.settings, {
          AUTH_LEVEL                            = "function" # nothing is in front of it
          APPLICATIONINSIGHTS_CONNECTION_STRING = azurerm_application_insights.main.connection_string
        })

        content {
          name  = env.key
          value = env.value
        }
      }

      startup_probe {
        transport               = "HTTP"
        port                    = local.port
        path                    = "/v2/health/live"
        failure_count_threshold = 30
      }

      readiness_probe {
        transport = "HTTP"
        port      = local.port
        path      = "/v2/health/ready"
      }

      liveness_probe {
        transport = "HTTP"
        port      = local.port
        path      = "/v2/health/live"
      }
    }
  }

  depends_on = [azurerm_role_assignment.pull]
}
