resource "azurerm_monitor_action_group" "main" {
  name                = "${local.name}-alerts"
  resource_group_name = local.group.name
  short_name          = substr(local.name, 0, 12)
  tags                = local.tags

  dynamic "email_receiver" {
    for_each = var.alert_emails

    content {
      name                    = email_receiver.value
      email_address           = email_receiver.value
      use_common_alert_schema = true
    }
  }
}

locals {
  insights = { scope = azurerm_application_insights.main.id, namespace = "microsoft.insights/components" }
  queues   = { scope = "${local.data.id}/queueServices/default", namespace = "Microsoft.Storage/storageAccounts/queueServices" }
  topic    = { scope = azurerm_eventgrid_system_topic.data.id, namespace = "Microsoft.EventGrid/systemTopics" }

  # Azure reports the lengths of queues once an hour.
  metric_alerts = {
    failures = merge(local.insights, {
      metric    = "requests/failed", aggregation = "Count", threshold = var.failure_alert_count
      frequency = "PT1M", window = "PT5M", severity = 1, description = "Requests to the app fail"
    })
    latency = merge(local.insights, {
      metric    = "requests/duration", aggregation = "Average", threshold = var.latency_alert_ms
      frequency = "PT5M", window = "PT15M", severity = 2, description = "Requests to the app are slow"
    })
    backlog = merge(local.queues, {
      metric    = "QueueMessageCount", aggregation = "Average", threshold = var.backlog_alert_count
      frequency = "PT1H", window = "PT1H", severity = 2, description = "Jobs wait in the queues"
    })
    undelivered = merge(local.topic, {
      metric    = "DeadLetteredCount", aggregation = "Total", threshold = 0
      frequency = "PT5M", window = "PT15M", severity = 1, description = "Files arrived and the app was not told"
    })
  }
}

resource "azurerm_monitor_metric_alert" "main" {
  for_each = local.metric_alerts

  name                = "${local.name}-${each.key}"
  resource_group_name = local.group.name
  description         = each.value.description
  scopes              = [each.value.scope]
  frequency           = each.value.frequency
  window_size         = each.value.window
  severity            = each.value.severity
  tags                = local.tags

  criteria {
    metric_namespace       = each.value.namespace
    metric_name            = each.value.metric
    aggregation            = each.value.aggregation
    operator               = "GreaterThan"
    threshold              = each.value.threshold
    skip_metric_validation = true
  }

  action {
    action_group_id = azurerm_monitor_action_group.main.id
  }
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "poison" {
  name                  = "${local.name}-poison"
  resource_group_name   = local.group.name
  location              = var.location
  description           = "A message or file failed as often as it may, and was put into a poison queue"
  scopes                = [azurerm_log_analytics_workspace.main.id]
  severity              = 1
  evaluation_frequency  = "PT5M"
  window_duration       = "PT5M"
  skip_query_validation = true # the table comes with its first row
  tags                  = local.tags

  criteria {
    query = <<-KUSTO
      StorageQueueLogs
      | where OperationName == "PutMessage" and StatusCode startswith "2"
      | where ObjectKey has "/${var.queues.jobs_poison}"
    KUSTO

    time_aggregation_method = "Count"
    operator                = "GreaterThan"
    threshold               = 0
  }

  action {
    action_groups = [azurerm_monitor_action_group.main.id]
  }
}

resource "azurerm_consumption_budget_resource_group" "main" {
  count = var.budget > 0 ? 1 : 0

  name              = "${local.name}-budget"
  resource_group_id = local.group.id
  amount            = var.budget
  time_grain        = "Monthly"

  # Azure takes the first day of this month, and of no month before it.
  time_period {
    start_date = formatdate("YYYY-MM-01'T'00:00:00'Z'", plantimestamp())
  }

  # It began once: in the months after that the date would be another one, which makes another budget.
  lifecycle {
    ignore_changes = [time_period]
  }

  dynamic "notification" {
    for_each = { Forecasted = 80, Actual = 100 }

    content {
      operator       = "GreaterThan"
      threshold      = notification.value
      threshold_type = notification.key
      contact_groups = [azurerm_monitor_action_group.main.id]
    }
  }
}
