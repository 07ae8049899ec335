# The alerts of deploy/monitoring over the metrics that the app pushes: the same files as for a Prometheus of one's own.

locals {
  rule_files  = [for name in ["recording", "alerts"] : yamldecode(file("${path.module}/../../monitoring/rules/${name}.yml"))]
  rule_groups = { for group in flatten([for file in local.rule_files : file.groups]) : group.name => group.rules }
  severities  = { page = 1, ticket = 3 }
}

resource "azurerm_monitor_alert_prometheus_rule_group" "main" {
  for_each = local.rule_groups

  name                = "${local.name}-${each.key}"
  resource_group_name = local.group.name
  location            = var.location
  scopes              = [azurerm_monitor_workspace.main.id]
  interval            = "PT1M"
  rule_group_enabled  = true
  tags                = local.tags

  dynamic "rule" {
    for_each = each.value

    content {
      enabled     = true
      record      = try(rule.value.record, null)
      alert       = try(rule.value.alert, null)
      expression  = rule.value.expr
      for         = try("PT${upper(rule.value.for)}", null)
      labels      = try(rule.value.labels, null)
      annotations = try(rule.value.annotations, null)
      severity    = try(local.severities[rule.value.labels.severity], null)

      dynamic "action" {
        for_each = can(rule.value.alert) ? [azurerm_monitor_action_group.main.id] : []

        content {
          action_group_id = action.value
        }
      }
    }
  }
}
