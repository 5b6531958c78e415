/** What was tried before a first run, by workflow: the event of a trigger and the results of steps that were tested by
 * themselves. Expressions are completed from it. */
import { create } from 'zustand'
import type { Json } from '../api/client'

export type Tested = { result: unknown; at: string }
type Results = Record<string, Tested>
type Trials = { events: Record<string, Json>; results: Record<string, Results> }
const NONE: Results = {}
const useTrials = create<Trials>(() => ({ events: {}, results: {} }))

export const keepTrial = (workflowId: string | null, event: Json) =>
  useTrials.setState(({ events }) => ({ events: { ...events, [workflowId ?? '']: event } }))

export const keepResult = (workflowId: string | null, step: string, result: unknown) =>
  useTrials.setState(({ results }) => ({
    results: {
      ...results,
      [workflowId ?? '']: { ...results[workflowId ?? ''], [step]: { result, at: new Date().toISOString() } },
    },
  }))

/** A run has begun, which has a payload and results of its own. */
export const forgetTrial = (workflowId: string | null) =>
  useTrials.setState(
    ({ events: { [workflowId ?? '']: _, ...events }, results: { [workflowId ?? '']: __, ...results } }) => ({
      events,
      results,
    }),
  )

export const useTrial = (workflowId: string | null): Json | undefined => useTrials((s) => s.events[workflowId ?? ''])
export const useTested = (workflowId: string | null): Results => useTrials((s) => s.results[workflowId ?? ''] ?? NONE)
