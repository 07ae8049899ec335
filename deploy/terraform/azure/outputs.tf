output "resource_group" {
  description = "Name of the resource group"
  value       = local.group.name
}

output "function_app" {
  description = "Name of the function app: az functionapp deployment source config-zip --name NAME"
  value       = azapi_resource.function.name
}

output "python_version" {
  description = "Python of the function app"
  value       = var.python_version
}

output "url" {
  description = "Address of the function app"
  value       = local.url
}

output "container_url" {
  description = "Address of the Container App, if there is one"
  value       = one([for app in azurerm_container_app.main : "https://${app.ingress[0].fqdn}"])
}

output "registry" {
  description = "Server of the container registry"
  value       = azurerm_container_registry.main.login_server
}

output "storage_account" {
  description = "Account of the containers for models, inputs and outputs, and of the queues"
  value       = local.data.name
}

output "jobs_queue" {
  description = "The queue of jobs, for inferry batch --on azure: BATCH_RUNNER"
  value       = "${trimsuffix(local.data.primary_queue_endpoint, "/")}/${var.queues.jobs}"
}

output "remote_write_url" {
  description = "Where the app pushes its metrics"
  value       = local.remote_write_url
}

output "query_url" {
  description = "Where Grafana asks for them"
  value       = azurerm_monitor_workspace.main.query_endpoint
}

# The key is asked for when the line is run: it is in no state and no log.
output "curl" {
  description = "A first request, ready to run after az login"
  value = join(" ", [
    "curl ${local.url}/v2/models",
    "-H \"x-functions-key: $(az functionapp keys list",
    "--resource-group ${local.group.name}",
    "--name ${azapi_resource.function.name}",
    "--query functionKeys.default --output tsv)\"",
  ])
}
