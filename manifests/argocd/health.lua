-- The health of a Tunnel for Argo CD: the value of resource.customizations.health.tunnels.dev_Tunnel in argocd-cm.
-- See docs/gitops.md.
local at_rest = { Expired = true, Idle = true, Suspended = true }

local function found(status, message)
  return { status = status, message = message or "" }
end

if obj.metadata.deletionTimestamp ~= nil then
  return found("Progressing", "Closing the tunnel.")
end
local status = obj.status
if status == nil or status.conditions == nil then
  return found("Progressing", "Waiting for the operator.")
end
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return found("Progressing", "Waiting for the operator to take up the change.")
end
local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local ready, stalled, reconciling = conditions.Ready, conditions.Stalled, conditions.Reconciling
if stalled ~= nil and stalled.status == "True" then
  return found("Degraded", stalled.message)
end
if reconciling ~= nil and reconciling.status == "True" then
  return found("Progressing", reconciling.message)
end
if ready == nil then
  return found("Progressing", "Waiting for the operator.")
end
if ready.status == "True" then
  return found("Healthy", ready.message)
end
-- A tunnel that has ended is as its spec wants it; it is not opened again by a sync.
if at_rest[ready.reason] then
  return found("Suspended", ready.message)
end
return found("Progressing", ready.message)
