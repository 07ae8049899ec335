// Questions for IAM on standard input, and its answers on standard output: both are lists in JSON, in the same order.
import { readFileSync } from 'node:fs'
import { runSimulation, runUnsafeSimulation } from '@cloud-copilot/iam-simulate'

async function answer({ isListed, ...question }) {
  const simulation = { serviceControlPolicies: [], resourceControlPolicies: [], ...question }
  // The other one checks each question with AWS's reference of actions. This one fails at policies of resources.
  if (!isListed) return runUnsafeSimulation({ ...simulation, resourcePolicy: undefined }, {})
  const { overallResult, errors } = await runSimulation(simulation, {})
  return overallResult ?? JSON.stringify(errors)
}

const questions = JSON.parse(readFileSync(0, 'utf8'))
process.stdout.write(JSON.stringify(await Promise.all(questions.map(answer))))
